"""Local sources by content: a file as it is, a directory as a deterministic tar."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from typing import BinaryIO

from boxwright.files import CHUNK, hash_file
from boxwright.sources.reduce import TIME


def digest_local(path: str) -> str:
    """The hex SHA-256 of a file, or of a directory's tar."""
    if not os.path.isdir(path):
        return hash_file(os.path.realpath(path))
    hashing = _Hashing()
    _write_tar(path, hashing)
    return hashing.digest.hexdigest()


def write_local(path: str, destination: str) -> str:
    """Write what `digest_local` is the digest of; returns the digest."""
    if not os.path.isdir(path):
        digest = hashlib.sha256()
        with open(path, "rb") as source, open(destination, "wb") as file:
            while data := source.read(CHUNK):
                digest.update(data)
                file.write(data)
        return digest.hexdigest()
    with open(destination, "wb") as file:
        _write_tar(path, file)
    return hash_file(destination)


class _Hashing:
    """A file of which only the digest is kept."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return len(data)


def _write_tar(directory: str, out: BinaryIO | _Hashing) -> None:
    """Names in order, two modes, one time, no owners; version control's own directory is left out."""
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.GNU_FORMAT) as archive:  # type: ignore[call-overload]
        _add(archive, directory, "")


def _add(archive: tarfile.TarFile, directory: str, prefix: str) -> None:
    for name in sorted(os.listdir(directory), key=os.fsencode):
        if name == ".git":  # of a worktree or a submodule it is a file, which says where the checkout lies
            continue
        path = f"{directory}/{name}"
        status = os.lstat(path)
        member = tarfile.TarInfo(f"{prefix}{name}")
        member.mtime = TIME
        if stat.S_ISLNK(status.st_mode):
            member.type, member.linkname, member.mode = tarfile.SYMTYPE, os.readlink(path), 0o777
            archive.addfile(member)
        elif stat.S_ISDIR(status.st_mode):
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(member)
            _add(archive, path, f"{prefix}{name}/")
        elif stat.S_ISREG(status.st_mode):
            member.mode = 0o755 if status.st_mode & 0o100 else 0o644
            member.size = status.st_size
            with open(path, "rb") as file:
                archive.addfile(member, file)
