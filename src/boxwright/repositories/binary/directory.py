"""A directory as a place: of this machine, or shared over a network file system. Any web server can serve it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress

from boxwright.errors import FetchError
from boxwright.files import CHUNK
from boxwright.repositories.binary.place import Listed, MissingError, Upload, at_once, checked

HIDDEN = "."
"""With what names of files begin that are being written."""


class DirectoryPlace:
    """Objects are files. One is written beside its place and linked there, which fails where one is."""

    distant = False
    loose = False

    def __init__(self, path: str) -> None:
        self.where = path
        self._path = path

    def read(self, name: str, start: int = 0, size: int | None = None) -> Iterator[bytes]:
        """The object's bytes."""
        try:
            descriptor = os.open(f"{self._path}/{checked(name)}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise MissingError(self.where, name) from None
        except OSError as error:
            raise self._failed(error) from error
        return self._pieces(descriptor, start, size)

    def _pieces(self, descriptor: int, start: int, size: int | None) -> Iterator[bytes]:
        try:
            if start:
                os.lseek(descriptor, start, os.SEEK_SET)
            while (size is None or size > 0) and (
                data := os.read(descriptor, CHUNK if size is None else min(CHUNK, size))
            ):
                size = None if size is None else size - len(data)
                yield data
        except OSError as error:
            raise self._failed(error) from error
        finally:
            os.close(descriptor)

    def present(self, names: Collection[str]) -> set[str]:
        """Those that are there."""
        return {name for name in names if os.path.isfile(f"{self._path}/{checked(name)}")}

    def put(self, uploads: Sequence[Upload]) -> list[str]:
        """Put objects that are not there yet. Several at a time: they wait for the disk together."""
        made = at_once(self._put, uploads)
        return [upload.name for upload, new in zip(uploads, made, strict=True) if not new]

    def _put(self, upload: Upload) -> bool:
        if os.path.exists(f"{self._path}/{checked(upload.name)}"):
            return False
        try:
            self._written(upload, os.link)
        except FileExistsError:
            return False
        except OSError as error:
            raise self._failed(error) from error
        return True

    def replace(self, upload: Upload) -> None:
        """Put an object, in one rename over what is there."""
        try:
            self._written(upload, os.rename)
        except OSError as error:
            raise self._failed(error) from error

    def _written(self, upload: Upload, give_name: Callable[[str, str], None]) -> None:
        target = f"{self._path}/{checked(upload.name)}"
        directory = os.path.dirname(target)
        part = f"{directory}/{HIDDEN}{os.getpid()}-{os.urandom(6).hex()}"
        try:
            os.makedirs(directory, exist_ok=True)
            _write(upload, part)
            give_name(part, target)
        finally:
            with suppress(OSError):
                os.unlink(part)

    def names(self, prefix: str) -> Iterator[Listed]:
        """Every object below `prefix`."""
        top = f"{self._path}/{prefix}".rstrip("/")
        for directory, below, files in os.walk(top):
            below.sort()
            inside = os.path.relpath(directory, self._path)
            for file in sorted(files):
                if file.startswith(HIDDEN):
                    continue
                with suppress(FileNotFoundError):
                    status = os.lstat(f"{directory}/{file}")
                    name = file if inside == "." else f"{inside}/{file}"
                    yield Listed(name, status.st_size, int(status.st_mtime))

    def delete(self, names: Collection[str]) -> None:
        """Remove objects."""
        for name in names:
            try:
                os.unlink(f"{self._path}/{checked(name)}")
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._failed(error) from error

    def sweep(self, before: int) -> int:
        """Remove what was half put before then; returns how many."""
        old = [
            f"{directory}/{file}"
            for directory, _, files in os.walk(self._path)
            for file in files
            if file.startswith(HIDDEN)
        ]
        gone = 0
        for path in old:
            with suppress(OSError):
                if os.lstat(path).st_mtime < before:
                    os.unlink(path)
                    gone += 1
        return gone

    def close(self) -> None:
        """Nothing is held."""

    def _failed(self, error: OSError) -> FetchError:
        return FetchError("repository.directory", f"{error.filename or self._path}: {error.strerror or error}")


def _write(upload: Upload, part: str) -> None:
    """Write a file that anybody may read (a web server), and see it on the disk before it gets its name."""
    with open(part, "xb") as out:
        if upload.path:
            with open(upload.path, "rb") as source:
                while data := source.read(CHUNK):
                    out.write(data)
        else:
            out.write(upload.data)
        out.flush()
        os.fchmod(out.fileno(), 0o644)
        os.fdatasync(out.fileno())
