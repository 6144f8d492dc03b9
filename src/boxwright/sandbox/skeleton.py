"""The lowest layer of every sandbox: an empty file or directory for each mount point; none is made in another layer."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from boxwright.errors import StoreError
from boxwright.ports import Bind, SandboxMount, SecretFile, TreeMount

_DIRECTORIES: Final = ("proc", "sys", "dev")
_FILES: Final = ("etc/resolv.conf", "etc/hosts", "etc/hostname")


def ensure(cache: Path, mounts: Iterable[SandboxMount]) -> str:
    """The path of the skeleton for these mounts, made where it is missing; safe for many processes at once."""
    targets = dict.fromkeys(_DIRECTORIES, True) | dict.fromkeys(_FILES, False)
    for entry in mounts:
        is_directory = _is_directory(entry)
        name = os.path.normpath(entry.target).lstrip("/")
        if name not in ("", ".") and ".." not in name.split("/"):
            targets[name] = is_directory
    ordered = sorted(targets.items())
    digest = hashlib.sha256(repr(ordered).encode()).hexdigest()[:16]
    path = cache / f"skeleton-{digest}"
    if not path.is_dir():
        try:
            _make(cache, path, ordered)
        except OSError as error:
            message = f"mount points can't be prepared in {cache}: {error.strerror}"
            raise StoreError("sandbox.skeleton", message) from error
    return str(path)


def _is_directory(entry: SandboxMount) -> bool:
    if isinstance(entry, Bind):
        return os.path.isdir(entry.source)
    return entry.is_directory if isinstance(entry, TreeMount) else not isinstance(entry, SecretFile)


def _make(cache: Path, path: Path, ordered: list[tuple[str, bool]]) -> None:
    temporary = Path(tempfile.mkdtemp(dir=cache))
    for target, is_directory in ordered:
        place = temporary / target
        (place if is_directory else place.parent).mkdir(parents=True, exist_ok=True)
        if not is_directory:
            place.touch()
    for directory, _, files in os.walk(temporary):
        os.chmod(directory, 0o755)  # noqa: S103  as in any root file system
        for file in files:
            os.chmod(os.path.join(directory, file), 0o644)
    try:
        temporary.rename(path)
    except OSError:
        if not path.is_dir():
            raise
