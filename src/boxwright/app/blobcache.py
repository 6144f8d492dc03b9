"""Blobs of registries, kept in the store's cache so that the next pull fetches only what is missing.

They are part of what can be made again: `boxwright gc` removes those that no pull used for two weeks, or all.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from io import BytesIO
from typing import Any, BinaryIO

from boxwright.app.parallel import Stoppable, run_all
from boxwright.errors import FetchError
from boxwright.model.digest import Digest, digest_of, hex_of
from boxwright.repositories.registry.client import Client
from boxwright.store.home import unusable
from boxwright.store.store import Store

AT_ONCE = 4
KEPT_SECONDS = 14 * 24 * 3600
_DIRECTORY = "blobs"


class BlobCache:
    """The blobs of one store. Safe for threads and for processes side by side."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._directory = f"{store.home.cache}/{_DIRECTORY}"
        os.makedirs(self._directory, mode=0o700, exist_ok=True)

    def path(self, digest: Digest) -> str:
        """Where a blob lies or would lie."""
        return f"{self._directory}/{hex_of(digest)}"

    def has(self, digest: Digest) -> bool:
        """Whether a blob is here; then it was used now."""
        try:
            os.utime(self.path(digest))
        except FileNotFoundError:
            return False
        return True

    def fetch(self, client: Client, digest: Digest, size: int, cancelled: Callable[[], bool]) -> int:
        """See to it that a blob is here; gives how many bytes had to come. A part that came before is used."""
        if self.has(digest):
            return 0
        with self._store.lock(digest, cancelled):
            if self.has(digest):
                return 0
            part = f"{self.path(digest)}.part"
            before = os.path.getsize(part) if os.path.exists(part) else 0
            try:
                client.get_blob(digest, size, part)
                os.rename(part, self.path(digest))
            except OSError as error:
                raise unusable(self._store.home.root, error) from error
            return size - before if size > before else size

    def fetch_all(self, client: Client, blobs: Sequence[tuple[Digest, int]], registries: Stoppable) -> int:
        """The same for several at once; gives the bytes that came."""
        tasks = [partial(self.fetch, client, *blob, client.cancelled) for blob in dict.fromkeys(blobs)]
        return sum(run_all(tasks, AT_ONCE, registries))


class CachedFiles:
    """An image layout made of cached blobs and documents in memory (sources' `Files`)."""

    def __init__(self, cache: BlobCache, documents: dict[str, bytes]) -> None:
        self._cache = cache
        self._documents = documents

    def open(self, name: str) -> BinaryIO:
        """A file of the layout by its name. Raises FileNotFoundError."""
        if name in self._documents:
            return BytesIO(self._documents[name])
        return open(self._cache.path(Digest(f"sha256:{name.rpartition('/')[2]}")), "rb", buffering=0)

    def close(self) -> None:
        """Nothing is open."""


def checked_size(descriptor: dict[str, Any] | Any) -> tuple[Digest, int]:  # noqa: ANN401 - JSON
    """Digest and size of a descriptor. Raises FetchError."""
    size = descriptor.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise FetchError("oci.bad-image", "the image is not well formed: a descriptor says no size")
    return Digest(str(descriptor["digest"])), size


def prune_blobs(store: Store, *, everything: bool) -> None:
    """Remove what no pull used lately; parts of blobs too."""
    prune_unused(f"{store.home.cache}/{_DIRECTORY}", everything=everything)


def prune_unused(directory: str, *, everything: bool) -> None:
    """Remove what stands in a directory of a cache and was not used lately."""
    if not os.path.isdir(directory):
        return
    before = time.time() + 1 if everything else time.time() - KEPT_SECONDS
    for name in os.listdir(directory):
        path = f"{directory}/{name}"
        with suppress(FileNotFoundError):
            if os.stat(path).st_mtime >= before:
                continue
            if os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)


def document_name(data: bytes) -> str:
    """The name that a document has in a layout."""
    return f"blobs/{digest_of(data).replace(':', '/')}"
