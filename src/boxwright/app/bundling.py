"""Makes the bundle of a revision: what is read, what is run first, and what lies beside the ZIP."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from boxwright.app.bundleindex import INDEX, parse_index, publish
from boxwright.errors import BoxwrightError, FetchError, UsageError
from boxwright.files import hash_file
from boxwright.frontends.bundle.definition import BuildSteps, BundleDefinition, parse_bundle, script
from boxwright.images.bundlezip import EARLIEST, write_zip
from boxwright.model.bundle import PROGRAM, BundleFile, Revision
from boxwright.sources.bundletree import IGNORE_FILE, Selection, is_lfs_pointer, read_directory, read_small
from boxwright.sources.revision import (
    Repository,
    commit_time,
    fetch_commit,
    find_commit,
    has_changes,
    has_directory,
    is_ignored,
    local_repository,
    read_revision,
)

DEFINITION = "bundle.yaml"
OWN = ".bundle"
SHORT = 12
PROJECT = "abcdefghijklmnopqrstuvwxyz0123456789._-"


class BundleRequest(NamedTuple):
    """What the user asked for. `location` is a directory or a repository's address.

    Without `revision` a directory in a repository stands for its commit, any other for what lies in it; `working` is
    for what lies in it in any case. `sign` is an Ed25519 key's PEM file.
    """

    location: str
    output: str
    revision: str = ""
    working: bool = False
    project: str = ""
    sign: str = ""
    store: bool = False
    elsewhere: tuple[str, ...] = ()
    """Other directories that get the bundle: like `output`, what lies in them is no part of it."""


class Bundle(NamedTuple):
    """A finished bundle. `revision` is the commit, or the first digits of the content's digest; `time` in seconds."""

    path: str
    project: str
    revision: str
    sha256: str
    size: int
    files: int
    time: int


class _Source(NamedTuple):
    revision: Revision
    files: Iterator[BundleFile]


def make_bundle(request: BundleRequest, environment: Mapping[str, str], warn: Callable[[str], None]) -> Bundle:
    """Write the ZIP, its digest, its manifest and the index into the directory `request.output`.

    Raises BoxwrightError; nothing is left half written then.
    """
    if request.sign:
        from boxwright.app.bundlekeys import check_private_key

        check_private_key(request.sign)
    os.makedirs(request.output, exist_ok=True)
    output = os.path.abspath(request.output)
    with tempfile.TemporaryDirectory(prefix=".bundle", dir=output) as scratch:
        with _opened(request, environment, scratch, warn) as source:
            files = _without_bundles(source.files, request)
        definition = _definition(files)
        files = _selected(files, definition)
        if definition.build is not None:
            files = _built(definition.build, files, source.revision, scratch, environment)
        _name_pointers(files, warn)
        project = request.project or definition.name or source.revision.project
        files += _own_files(definition, project, source.revision.name)
        part = f"{scratch}/bundle.zip"
        written = write_zip(files, part, source.revision.time, store=request.store or not definition.compress)
        sha256, size = hash_file(part), os.path.getsize(part)
        revision = source.revision.name or sha256
        path = f"{request.output}/{project}-{revision[:SHORT]}.zip"
        bundle = Bundle(path, project, revision, sha256, size, len(written), source.revision.time)
        publish(bundle, part, request.sign)
    return bundle


def _without_bundles(files: Iterable[BundleFile], request: BundleRequest) -> list[BundleFile]:
    """What is bundled without the bundles made before: where they go to now, and wherever an index lists some."""
    found = list(files)
    places = {f"{it}/" for it in _outputs(request)}
    places |= {f"{os.path.dirname(it.path)}/" for it in found if it.path.endswith(f"/{INDEX}") and _lists_bundles(it)}
    return [file for file in found if not f"{file.path}/".startswith(tuple(places))]


def _outputs(request: BundleRequest) -> list[str]:
    """The directories that get the bundle, relative to what is bundled; only those that lie in it."""
    top = os.path.realpath(request.location)
    paths = (os.path.relpath(os.path.realpath(it), top) for it in (request.output, *request.elsewhere))
    return [path for path in paths if path.partition("/")[0] != ".."]


def _lists_bundles(file: BundleFile) -> bool:
    try:
        return bool(parse_index(read_small(file), file.path))
    except BoxwrightError:
        return False


@contextmanager
def _opened(
    request: BundleRequest, environment: Mapping[str, str], scratch: str, warn: Callable[[str], None]
) -> Iterator[_Source]:
    if not os.path.isdir(request.location):
        yield _remote(request, scratch)
        return
    directory = os.path.realpath(request.location)
    found = None if request.working else local_repository(directory)
    if found is None and request.revision:
        message = f"{request.location} lies in no git repository, so it has no revision {request.revision}"
        raise UsageError("bundle.no-repository", message, hint="without --rev the directory itself is bundled")
    if found is None:
        moment = environment.get("SOURCE_DATE_EPOCH", "")
        project = project_name(os.path.basename(directory))
        yield _Source(Revision(project, "", int(moment) if moment.isdigit() else EARLIEST), read_directory(directory))
        return
    repository, below = found
    commit = _commit_of(request, repository)
    if below and not has_directory(repository, commit, below):
        raise _not_committed(request, directory, below, commit)
    if not request.revision and has_changes(directory, _outputs(request)):
        warn("there are changes that are not committed; they are not in the bundle (--working-tree takes them)")
    yield _committed(repository, commit, below, directory, scratch)


def _commit_of(request: BundleRequest, repository: Repository) -> str:
    try:
        return find_commit(repository, request.revision or "HEAD")
    except FetchError as error:
        if request.revision:
            raise
        message = f"{request.location} lies in a git repository that has no commit yet"
        hint = "commit it, or take it as it lies there with --working-tree"
        raise UsageError("bundle.not-committed", message, hint=hint) from error


def _not_committed(request: BundleRequest, directory: str, below: str, commit: str) -> UsageError:
    """Nobody asked for what lies there uncommitted: it has no revision, and is another on each machine."""
    reason = "git ignores it" if is_ignored(directory) else "it is not committed"
    name = request.revision or f"the commit {commit[:SHORT]}"
    message = f"{request.location} lies in a git repository, but {name} has no {below}/: {reason}"
    other = "commit it" if not request.revision else "name another revision"
    hint = f"{other}, or take it as it lies there with --working-tree"
    if request.revision:
        hint += " (without --rev)"
    return UsageError("bundle.not-committed", message, hint=hint)


def _remote(request: BundleRequest, scratch: str) -> _Source:
    from boxwright.sources.git import resolve

    url = request.location
    if "://" not in url and "@" not in url:
        raise UsageError("bundle.location", f"{url} is no directory, and no address of a repository")
    commit = resolve(url, request.revision).commit
    return _committed(fetch_commit(url, commit, f"{scratch}/repository"), commit, "", url, scratch)


def _committed(repository: Repository, commit: str, below: str, location: str, scratch: str) -> _Source:
    name = location if below else repository.origin
    project = project_name(name.rstrip("/").removesuffix("/.git").rpartition("/")[2].rpartition(":")[2])
    revision = Revision(project, commit, commit_time(repository, commit))
    return _Source(revision, read_revision(repository, commit, below, scratch))


def project_name(text: str) -> str:
    """A name for the project, of characters that do in files and addresses."""
    lower = text.removesuffix(".git").lower()
    name = "".join(letter if letter in PROJECT else "-" for letter in lower).strip("-._")
    return name or "bundle"


def _definition(files: list[BundleFile]) -> BundleDefinition:
    for file in files:
        if file.path == DEFINITION:
            return parse_bundle(read_small(file), DEFINITION)
    return BundleDefinition()


def _selected(files: list[BundleFile], definition: BundleDefinition) -> list[BundleFile]:
    """Without what is left out, and without the files that say so. Raises BoxwrightError `bundle.own`."""
    own = next((file.path for file in files if file.path == OWN or file.path.startswith(f"{OWN}/")), None)
    if own is not None:
        hint = f"{OWN}/ is what the bundle says of itself: say it in {DEFINITION}"
        raise BoxwrightError("bundle.own", f"{own} can't be in a bundle", hint=hint)
    ignore = next((read_small(file) for file in files if file.path == IGNORE_FILE), "")
    selection = Selection(ignore, definition.include, definition.exclude)
    return [file for file in files if file.path not in (DEFINITION, IGNORE_FILE) and selection.takes(file.path)]


def _built(
    steps: BuildSteps,
    files: list[BundleFile],
    revision: Revision,
    scratch: str,
    environment: Mapping[str, str],
) -> list[BundleFile]:
    from boxwright.app.bundlesteps import run_steps

    return list(run_steps(steps.image, steps.run, files, revision.time, scratch, environment))


def _name_pointers(files: list[BundleFile], warn: Callable[[str], None]) -> None:
    pointers = [file.path for file in files if is_lfs_pointer(file)]
    if pointers:
        shown = ", ".join(pointers[:5]) + (f" and {len(pointers) - 5} more" if len(pointers) > 5 else "")
        warn(f"git-lfs pointers, not their content, are in the bundle: {shown}")


def _own_files(definition: BundleDefinition, project: str, revision: str) -> list[BundleFile]:
    """What the installer reads: ``.bundle/install``, ``.bundle/start``, and which revision it is."""
    text = json.dumps({"project": project, "revision": revision}, sort_keys=True) + "\n"
    files = [BundleFile(f"{OWN}/bundle.json", 0o100644, len(text), data=text.encode())]
    for name, command in (("install", definition.install), ("start", definition.start)):
        if command:
            data = script(command)
            files.append(BundleFile(f"{OWN}/{name}", PROGRAM, len(data), data=data))
    return files


def refuse_inside(output: str, location: str) -> None:
    """Raise where the output would become part of what is bundled."""
    inside = os.path.realpath(location)
    if os.path.realpath(output) == inside:
        raise BoxwrightError("bundle.output", f"{output} is what is bundled", hint="say -o DIRECTORY")
