"""Where an image's files lie: a directory, or a tar that is read in place. Content is checked as it is read."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from boxwright.errors import FetchError
from boxwright.model.digest import Digest
from boxwright.sources.imageconfig import bad

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DOCUMENT = 16 << 20


class Files(Protocol):
    """Files by name."""

    def open(self, name: str) -> BinaryIO:
        """A file's bytes. Raises FileNotFoundError."""
        ...

    def close(self) -> None:
        """Done."""
        ...


class DirectoryFiles:
    """An image layout's directory."""

    def __init__(self, root: str) -> None:
        self._root = root

    def open(self, name: str) -> BinaryIO:
        """A regular file below the directory, by a name without ``..``."""
        path = os.path.join(self._root, name)
        inside = os.path.realpath(path).startswith(os.path.realpath(self._root) + os.sep)
        if not inside or not os.path.isfile(path):
            raise FileNotFoundError(path)
        return open(path, "rb", buffering=0)

    def close(self) -> None:
        """Nothing is open."""


class ArchiveFiles:
    """The members of a tar; where it is compressed, it is read anew from its start for what lies before."""

    def __init__(self, path: str) -> None:
        try:
            self._tar = tarfile.open(path)  # noqa: SIM115 - closed by close()
            self._members = {os.path.normpath(member.name): member for member in self._tar}
        except (tarfile.TarError, EOFError) as error:
            raise FetchError("oci.bad-image", f"{path} is no image archive: {error}") from error

    def open(self, name: str) -> BinaryIO:
        """A member's bytes; links between members (docker-archive has them) are followed."""
        member = self._members.get(os.path.normpath(name))
        for _ in range(8):
            if member is None or not member.issym():
                break
            target = os.path.join(os.path.dirname(member.name), member.linkname)
            member = self._members.get(os.path.normpath(target))
        file = self._tar.extractfile(member) if member is not None and not member.issym() else None
        if file is None:
            raise FileNotFoundError(name)
        return cast("BinaryIO", file)

    def close(self) -> None:
        """Close the archive."""
        self._tar.close()


class Verified(io.RawIOBase):
    """Bytes that are counted and hashed as they pass."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self.size = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._source.read(size)
        self._hash.update(data)
        self.size += len(data)
        return data

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """The next bytes."""
        view = memoryview(buffer)
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def finish(self, digest: Digest, what: str, size: int | None = None) -> None:
        """Read the rest; raise when all of it is not what `digest` and `size` say."""
        while self.read(1 << 20):
            pass
        if "sha256:" + self._hash.hexdigest() != digest or (size is not None and size != self.size):
            raise FetchError(
                "oci.digest",
                f"{what} is not what its digest says ({digest})",
                hint="it was changed or cut: fetch it again",
            )


def valid_digest(value: object) -> Digest:
    """A digest from a document. Only SHA-256 is taken (OCI image-spec, descriptor.md, "Registered algorithms")."""
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise bad(f"{value!r} is no sha256 digest")
    return Digest(value)


@contextmanager
def opened(files: Files, name: str, what: str) -> Iterator[Verified]:
    """One file."""
    try:
        file = files.open(name)
    except FileNotFoundError as error:
        raise FetchError("oci.missing", f"{what} is missing: {name}", hint="write or fetch the image again") from error
    with file:
        yield Verified(file)


def document(files: Files, name: str, what: str, digest: Digest | None = None) -> bytes:
    """A small file, verified where its digest is known."""
    with opened(files, name, what) as source:
        data = source.read(_DOCUMENT + 1)
        if len(data) > _DOCUMENT:
            raise bad(f"{what} is larger than {_DOCUMENT} bytes")
        if digest is not None:
            source.finish(digest, what)
        return data


def blob_name(digest: Digest) -> str:
    """Where a layout keeps a blob (OCI image-spec, image-layout.md, "Blobs")."""
    return "blobs/" + digest.replace(":", "/")
