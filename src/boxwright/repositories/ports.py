"""What a build asks of whatever keeps packages elsewhere.

Every kind of repository (binary host, registry, Remote Execution API server) is asked the same two questions: which of
these packages have you got, and give me this one. Order, checks against the store and the store itself are `app`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from boxwright.model.digest import Digest


class Wanted(NamedTuple):
    """A package that a build needs: its definition key, and its content key where that is known."""

    definition: Digest
    key: Digest | None = None


class Offer(NamedTuple):
    """A package that a repository has, and whose record was checked.

    `key` and `content` are what the package's record and tree turn out to be; `archive` is its tar's digest;
    `dependencies` are the contents that it was built with, by name, `toolchain` that of what it was built in; `size` is
    the tar's, in bytes. `handle` is the repository's own.
    """

    definition: Digest
    key: Digest
    name: str
    content: Digest
    archive: Digest
    dependencies: Mapping[str, str]
    toolchain: str
    size: int
    handle: Any


class PackageSource(Protocol):
    """A repository that packages are taken from. Safe for threads."""

    name: str

    def find(self, wanted: Sequence[Wanted]) -> Mapping[Wanted, Offer]:
        """Those of `wanted` that are here, in few requests. Raises FetchError where it can't be asked."""
        ...

    def refusals(self) -> Sequence[str]:
        """Why records that `find` met there don't count, in words; those since this was asked last."""
        ...

    def tested(self, keys: Sequence[Digest]) -> set[Digest]:
        """Of the keys of packages' tests those that are known to have passed there."""
        ...

    def fetch(self, offer: Offer, target: str, cancelled: Callable[[], bool]) -> dict[str, Any]:
        """Write the package's tar, compressed with zstd, to the new file `target`; returns its metadata.

        Both are what the checked record says, else FetchError.
        """
        ...

    def fetch_source(self, content: str, target: str, cancelled: Callable[[], bool]) -> bool:
        """Write a source's file (named as packages' records name it) to the new file `target`, where it is here."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
