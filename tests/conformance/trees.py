"""What a build gave, as values that can be compared: the tree of an archive, and a configuration."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ENGINES_OWN = frozenset({".dockerenv", "etc/hosts", "etc/resolv.conf", "etc/hostname"})
"""What engines make or bind while a step runs."""

CONFIG = [
    "Env",
    "Cmd",
    "Entrypoint",
    "WorkingDir",
    "User",
    "Labels",
    "ExposedPorts",
    "Volumes",
    "StopSignal",
    "Healthcheck",
    "Shell",
    "OnBuild",
    "Author",
]
SHORT = 200  # bytes of text that a line shows; of a longer file it holds the digest

Lines = Mapping[str, str]


@dataclass(frozen=True)
class Observed:
    """A result: each path with a line that says all that counts of it, and the configuration's fields."""

    tree: Lines
    config: Mapping[str, Any]


def read_tree(archive: Path | IO[bytes]) -> Lines:
    """Each path of a tar archive (without the root) and its line."""
    lines: dict[str, str] = {}
    groups: dict[str, list[str]] = {}
    first: dict[str, str] = {}
    name, file = (archive, None) if isinstance(archive, Path) else (None, archive)
    with tarfile.open(name, fileobj=file) as tar:
        for member in tar:
            path = member.name.removeprefix("./").strip("/")
            if path in ENGINES_OWN or path in {"", "."}:
                continue
            if member.islnk():
                target = member.linkname.removeprefix("./").lstrip("/")
                target = first.get(target, target)
                first[path] = target
                groups.setdefault(target, [target]).append(path)
            else:
                lines[path] = _line(tar, member)
    for target, paths in groups.items():
        line = lines[target]
        for path in paths:
            lines[path] = f"{line} = {' '.join(f'/{other}' for other in sorted(paths) if other != path)}"
    return lines


def _line(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    owner = f"{member.uid}:{member.gid}"
    attributes = "".join(
        f" {name.removeprefix('SCHILY.xattr.')}={value.encode('utf-8', 'surrogateescape').hex()}"
        for name, value in sorted(member.pax_headers.items())
        if name.startswith("SCHILY.xattr.")
    )
    if member.issym():
        return f"link {owner} -> {member.linkname}{attributes}"
    mode = f"{member.mode & 0o7777:o}"
    if member.isdir():
        return f"dir {mode} {owner}{attributes}"
    if member.isreg():
        file = tar.extractfile(member)
        return f"file {mode} {owner} {_shown(file.read() if file else b'')}{attributes}"
    if member.isfifo():
        return f"fifo {mode} {owner}{attributes}"
    kind = "block" if member.isblk() else "char"
    return f"{kind} {mode} {owner} {member.devmajor}:{member.devminor}{attributes}"


def _shown(data: bytes) -> str:
    try:
        text = data.decode() if len(data) <= SHORT else ""
    except UnicodeDecodeError:
        text = ""
    return (
        json.dumps(text, ensure_ascii=False)
        if text or not data
        else f"{len(data)} sha256:{hashlib.sha256(data).hexdigest()}"
    )


def normal_config(image: Mapping[str, Any], author: str = "") -> dict[str, Any]:
    """The fields that are compared, without those that say nothing.

    A directory of "/" is none, and so is an empty list.
    """
    values = {**image, "Author": author}
    found: dict[str, Any] = {}
    for name in CONFIG:
        value = values.get(name)
        if name in {"ExposedPorts", "Volumes"}:
            value = sorted(value or ())
        if name == "WorkingDir" and value == "/":
            value = ""
        if value:
            found[name] = value
    return found


def read_docker_archive(archive: Path) -> Observed:
    """The one image of a docker archive with one layer."""
    with tarfile.open(archive) as tar:
        manifest = json.load(_member(tar, "manifest.json"))
        config = json.load(_member(tar, manifest[0]["Config"]))
        (layer,) = manifest[0]["Layers"]
        tree = read_tree(_member(tar, layer))
    return Observed(tree, normal_config(config.get("config") or {}, config.get("author", "")))


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    return file


def changed(tree: Lines, base: Lines) -> list[str]:
    """What a tree has else than the base, in lines: ``/path KIND ...`` or ``/path gone``."""
    found = [f"/{path} {line}" for path, line in sorted(tree.items()) if base.get(path) != line]
    return found + [f"/{path} gone" for path in sorted(base.keys() - tree.keys()) if _top(path, tree, base)]


def _top(path: str, tree: Lines, base: Lines) -> bool:
    """Whether `path` is gone by itself and not with its directory."""
    parent = path.rpartition("/")[0]
    return not parent or parent in tree or parent not in base


def expectation(result: Observed, base: Lines) -> dict[str, Any]:
    """A result as a data file holds it: against the base, or against nothing where that is shorter."""
    against_base, against_nothing = changed(result.tree, base), changed(result.tree, {})
    short = against_base if len(against_base) <= len(against_nothing) else against_nothing
    over = {} if short is against_base else {"over": "scratch"}
    return {**over, "tree": short, "config": dict(result.config)}


def differences(ours: Observed, judge: Observed) -> list[str]:
    """What differs, a line for each."""
    found = [
        f"/{path}: ours {ours.tree.get(path, 'nothing')}; judge {judge.tree.get(path, 'nothing')}"
        for path in sorted(ours.tree.keys() | judge.tree.keys())
        if ours.tree.get(path) != judge.tree.get(path)
    ]
    return found + differing_fields(ours.config, judge.config)


def differing_fields(ours: Mapping[str, Any], judge: Mapping[str, Any]) -> list[str]:
    """The fields of the configuration that differ."""
    return [
        f"{name}: ours {json.dumps(ours.get(name))}; judge {json.dumps(judge.get(name))}"
        for name in CONFIG
        if ours.get(name) != judge.get(name)
    ]


def differences_from(expected: Mapping[str, Any], result: Observed, base: Lines) -> list[str]:
    """What a result has else than what a data file expects. A config that isn't given isn't compared."""
    against: Lines = {} if expected.get("over") == "scratch" else base
    wanted, got = list(expected["tree"]), changed(result.tree, against)
    found = _missing("expected", wanted, got) + _missing("unexpected", got, wanted)
    return found + (differing_fields(result.config, expected["config"]) if "config" in expected else [])


def _missing(word: str, some: Iterable[str], others: Iterable[str]) -> list[str]:
    there = set(others)
    return [f"{word}: {line}" for line in some if line not in there]
