"""An Alpine base from a mirror: index, signature, dependencies, packages, their scripts, the package database.

Alpine's package manager is not needed, and what it needs to go on in the tree is there afterwards.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from boxwright.errors import MachineError
from boxwright.sources import settle
from boxwright.sources.alpine.archive import open_archive
from boxwright.sources.alpine.database import database, make_tar
from boxwright.sources.alpine.fetching import download
from boxwright.sources.alpine.index import Package, parse_dependency, parse_index
from boxwright.sources.alpine.keys import ApkPlaces, Signature, check_signature, read_signature
from boxwright.sources.alpine.resolve import resolve
from boxwright.sources.alpine.segments import files_of, read_segment
from boxwright.sources.alpine.system import PACKAGES as SYSTEM
from boxwright.sources.alpine.system import enable_system
from boxwright.sources.alpine.tree import Tree
from boxwright.sources.packages import BasePackage, BootstrapResult
from boxwright.sources.reference import BaseName

MIRROR = "https://dl-cdn.alpinelinux.org/alpine"
_WORLD = ("alpine-baselayout", "alpine-keys", "alpine-release", "apk-tools", "busybox", "libc-utils")
"""What the distribution's own container images hold."""

_NOT_EVERYWHERE = ("alpine-release", "busybox-ifupdown")
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64", "386": "x86", "arm": "armv7", "": os.uname().machine}
_LARGEST_INDEX = 256 << 20
_LARGEST_PACKAGE = 4 << 30
_EMPTIED = ("dev", "proc", "run", "sys", "tmp", "var/tmp", "var/cache/apk", "var/cache/misc")
_REMOVED = ("etc/resolv.conf", "etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/.pwd.lock")
_DAY = 86400


class _Mirror(NamedTuple):
    """One branch of a mirror for one architecture."""

    branch: str
    architecture: str
    keys: Sequence[str]
    scratch: str
    cancelled: Callable[[], bool]

    def repository(self, name: str) -> str:
        """The address of ``main`` or ``community``."""
        return f"{self.branch}/{name}"

    def read_index(self, name: str) -> tuple[list[Package], tuple[str, bytes]]:
        """The packages of a repository, and the key that signed its index."""
        url = f"{self.repository(name)}/{self.architecture}/APKINDEX.tar.gz"
        path = f"{self.scratch}/APKINDEX-{name}"
        download(url, path, _LARGEST_INDEX, self.cancelled)
        with open(path, "rb") as file:
            first = read_segment(file, 0)
            found = [read_signature(*member) for member in files_of(first.data)]
            signatures = [signature for signature in found if isinstance(signature, Signature)]
            start = first.end if signatures else 0
            signed = f"{path}.signed"
            file.seek(start)
            with open(signed, "wb") as rest:
                while data := file.read(1 << 20):
                    rest.write(data)
        key = check_signature(url, signatures, signed, self.keys)
        with open(signed, "rb", buffering=0) as file:
            text = dict(files_of(file)).get(b"APKINDEX", b"").decode("utf-8", "replace")
        return list(parse_index(text, self.repository(name), self.architecture)), key

    def fetch(self, package: Package) -> str:
        """The package's file, not checked yet; the mirror keeps those for all architectures beside the others."""
        path = f"{self.scratch}/package"
        url = f"{package.repository}/{self.architecture}/{package.file}"
        download(url, path, package.size or _LARGEST_PACKAGE, self.cancelled)
        return path


def bootstrap_alpine(
    base: BaseName,
    destination: str,
    *,
    mirror: str | None,
    output: Callable[[bytes], None],
    architecture: str,
    cancelled: Callable[[], bool],
    places: ApkPlaces,
) -> BootstrapResult:
    """Fill the empty directory `destination`.

    The tree's time is the newest build time of its packages.
    """
    if os.geteuid() != 0:
        raise MachineError("machine.not-root", "a base can only be made as root or in a user namespace")
    branch = base.suite if base.suite[:1].isalpha() else f"v{base.suite}"
    name = _ARCHITECTURES.get(architecture.partition("/")[0], architecture)
    with tempfile.TemporaryDirectory(prefix="boxwright-alpine-", dir=places.scratch) as directory:
        place = f"{(mirror or base.mirror or MIRROR).rstrip('/')}/{branch}"
        source = _Mirror(place, name, places.keys, directory, cancelled)
        repositories = ("main", "community") if base.packages else ("main",)
        indexes = [source.read_index(repository) for repository in repositories]
        available = [package for packages, _ in indexes for package in packages]
        world = _world(base, {package.name for package in available})
        chosen = resolve(available, [parse_dependency(text) for text in world])
        tree = Tree(destination, output, cancelled)
        made = _install(source, tree, chosen, output)
    tree.run_triggers()
    time = max(package.built for package in chosen)
    settings = {
        "etc/apk/arch": f"{name}\n".encode(),
        "etc/apk/repositories": f"{source.repository('main')}\n{source.repository('community')}\n".encode(),
        "etc/apk/world": "".join(f"{text}\n" for text in sorted(world)).encode(),
        **{f"etc/apk/keys/{key}": text for _, (key, text) in indexes},
    }
    tree.write(make_tar({"tmp": 0o1777}, {**settings, **database(tree.installed)}, {}, time))
    if base.system:
        enable_system(tree, time)
    _settle(Path(destination), time)
    return BootstrapResult(time, time, made, tuple(source.repository(name) for name in ("main", "community")))


def _world(base: BaseName, available: set[str]) -> tuple[str, ...]:
    """What is asked for, without what older branches don't have."""
    wanted = (*_WORLD, *(SYSTEM if base.system else ()))
    there = [name for name in wanted if name in available or name not in _NOT_EVERYWHERE]
    return tuple(dict.fromkeys((*there, *base.packages)))


def _install(
    source: _Mirror, tree: Tree, chosen: Sequence[Package], output: Callable[[bytes], None]
) -> tuple[BasePackage, ...]:
    made = []
    for number, package in enumerate(chosen, 1):
        output(f"({number}/{len(chosen)}) Installing {package.name} ({package.version})\n".encode())
        path = source.fetch(package)
        with open(path, "rb") as file:
            archive = open_archive(file, package)
        tree.install(archive, path)
        made.append(BasePackage(package.name, package.version, package.architecture, archive.sha256))
    return tuple(sorted(made, key=lambda package: package.name))


def _settle(root: Path, time: int) -> None:
    """Take away what scripts leave that differs from run to run."""
    for name in _EMPTIED:
        if _is_inside(root, name):
            settle.empty_directory(root / name)
    for name in _REMOVED:
        if _is_inside(root, name):
            (root / name).unlink(missing_ok=True)
    if _is_inside(root, "var/log/messages"):
        settle.remove_logs(root / "var/log")
    if _is_inside(root, "etc/shadow") and (root / "etc/shadow").is_file():
        settle.date_passwords(root / "etc/shadow", time // _DAY)
    settle.clamp_times(os.fspath(root), time)


def _is_inside(root: Path, name: str) -> bool:
    """Whether no link on the way to that path, nor it itself, leads out of the tree."""
    path = root / name
    return not path.is_symlink() and path.parent.resolve().is_relative_to(root.resolve())
