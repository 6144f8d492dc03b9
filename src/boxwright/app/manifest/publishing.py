"""Modules of a repository: searched, added to a manifest, begun, published."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from boxwright.app.definitions import read_definition
from boxwright.app.manifest.imagetrees import parse_image_address, publish_to_image
from boxwright.app.manifest.modules import FILE, Candidate, find_module, module_digest, pin_of, read_pins, write_pins
from boxwright.app.manifest.world import DirectoryWorld
from boxwright.errors import BoxwrightError, DefinitionError, UsageError
from boxwright.frontends.manifest.modules import parameters_of
from boxwright.frontends.manifest.render import probed
from boxwright.frontends.manifest.schema import Module, Parameter
from boxwright.frontends.package.convert import convert
from boxwright.frontends.package.document import parse_document
from boxwright.model.giturl import GitUrl, parse_git_url

_NAME = re.compile(r"[a-z0-9][a-z0-9+._-]*(/[a-z0-9][a-z0-9+._-]*)?")
_SECTION = re.compile(r"^modules:[ \t]*(#.*)?$", re.MULTILINE)
_ANY_SECTION = re.compile(r"^modules:", re.MULTILINE)
SKELETON = """\
name: {name}
version: "0.1.0"
summary: Say what it is for
parameters:
  greeting: {{summary: A line of /etc/motd, default: hello}}
files: []
templates:
  - {{src: motd.j2, dest: /etc/motd}}
install: []
script:
  - test -s /etc/motd
"""


def search(world: DirectoryWorld, near: str, text: str) -> Iterator[Candidate]:
    """The modules whose name or summary holds `text`, of every repository."""
    from boxwright.app.manifest.modules import candidates

    for tree in world.module_places(near):
        for found in candidates(world.opened(tree), tree):
            if text.lower() in f"{found.name} {found.summary}".lower():
                yield found


def parameters(module: Candidate) -> dict[str, Parameter]:
    """What a module takes."""
    return parameters_of(read_definition(module.file), module.file)


def add(world: DirectoryWorld, manifest: str, name: str, version: str, origin: str) -> Candidate:
    """Add a module to a manifest's text, and pin it. Raises ``module.*``."""
    near = os.path.dirname(os.path.abspath(manifest))
    trees = (origin,) if origin else world.module_places(near)
    found = find_module(name, version, trees, world.opened, None)
    text = read_definition(manifest)
    more = f", from: {origin}" if origin else ""
    line = f'  - {{name: {name}, version: "{version or found.version}"{more}}}'
    if re.search(rf"name:[ ]*[\"']?{re.escape(name)}[\"' ,}}]", text) is None:
        section = _SECTION.search(text)
        if section is not None:
            text = f"{text[: section.end()]}\n{line}{text[section.end() :]}"
        elif _ANY_SECTION.search(text):
            hint = f"add {line.strip()!r} to it"
            raise UsageError("module.manifest", f"{manifest}: `modules` is no list of lines", hint=hint)
        else:
            text = f"{text.rstrip()}\nmodules:\n{line}\n"
        _write(manifest, text)
    write_pins(near, {**read_pins(near), name: pin_of(found)})
    return found


def begin(name: str, directory: str) -> str:
    """A new module that works; returns its directory. Raises `module.exists`."""
    if not _NAME.fullmatch(name):
        raise UsageError("module.name", f"{name!r} can't be the name of a module", hint="CATEGORY/NAME, lower case")
    place = os.path.join(directory, name)
    if os.path.exists(os.path.join(place, FILE)):
        raise UsageError("module.exists", f"{place} is there already")
    os.makedirs(place, exist_ok=True)
    _write(os.path.join(place, FILE), SKELETON.format(name=name))
    _write(os.path.join(place, "motd.j2"), "{{ greeting }}\n")
    return place


def checked(directory: str) -> Module:
    """A module that is to be published: its text read, with what its parameters are left open."""
    file = os.path.join(directory, FILE)
    if not os.path.isfile(file):
        raise UsageError("module.not-found", f"{directory} holds no {FILE}")
    text = read_definition(file)
    parameters_of(text, file)
    return convert(parse_document(probed(text, {}, lambda _: None), file), Module)


def publish(directory: str, repository: str, environment: Mapping[str, str]) -> str:
    """Copy a module to NAME/VERSION of a repository: a directory, a git repository that is pushed to, or an image here.

    Returns the place. Raises `module.exists` where that version is there with other content.
    """
    module = checked(directory)
    inside = f"{module.name}/{module.version}"
    image = parse_image_address(repository)
    if image is not None:
        from boxwright.app.opening import open_store

        below = os.path.join(image.subdirectory, inside)
        with open_store(environment) as store:
            publish_to_image(image.name, store, environment, lambda top: _place(directory, os.path.join(top, below)))
        return f"{repository} {inside}"
    url = parse_git_url(repository) or (GitUrl(repository) if _is_repository(repository) else None)
    if url is None:
        _place(directory, os.path.join(repository, inside))
        return os.path.join(repository, inside)
    with tempfile.TemporaryDirectory(prefix="boxwright-module-") as work:
        branch = ["--branch", url.ref] if url.ref else []
        _git(["clone", "--quiet", "--depth", "1", *branch, url.remote, work], None)
        _place(directory, os.path.join(work, url.subdirectory, inside))
        _git(["add", "--all"], work)
        if _git(["status", "--porcelain"], work):
            who = (
                ["-c", "user.name=boxwright", "-c", "user.email=boxwright@localhost"] if not _has_identity(work) else []
            )
            _git([*who, "commit", "--quiet", "-m", f"{module.name} {module.version}"], work)
            _git(["push", "--quiet", "origin", "HEAD"], work)
    return f"{repository} {inside}"


def _place(source: str, target: str) -> None:
    if os.path.exists(target):
        if module_digest(target) == module_digest(source):
            return
        name, version = target.rsplit("/", 2)[-2:]
        message = f"{name} {version} is there with other content: what was published stays"
        raise DefinitionError("module.exists", message, hint="give it another version")
    part = f"{target}.{os.getpid()}"
    shutil.copytree(source, part, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    os.rename(part, target)


def _is_repository(path: str) -> bool:
    return os.path.isdir(f"{path}/.git") or (os.path.isfile(f"{path}/HEAD") and os.path.isdir(f"{path}/objects"))


def _has_identity(work: str) -> bool:
    done = subprocess.run(["git", "config", "user.email"], cwd=work, capture_output=True, check=False)
    return done.returncode == 0


def _git(arguments: list[str], work: str | None) -> str:
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", *arguments],
        cwd=work,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        raise BoxwrightError("module.git", f"git {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout


def _write(path: str, text: str) -> None:
    part = Path(f"{path}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.rename(path)
