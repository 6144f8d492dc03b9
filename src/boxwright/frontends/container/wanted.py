"""What a container definition asks of the world: the port."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from boxwright.frontends.package.wanted import Found
from boxwright.model.span import Span


class LocalFile(NamedTuple):
    """A file or empty directory that is copied: its path in what is copied, mode, and text; None where it is none."""

    path: str
    mode: int
    text: str | None


class PackageFinder(Protocol):
    """Definitions of packages."""

    def find(self, reference: str, near: str, where: Span | None) -> Found:
        """The definition of a package (see PackageFiles)."""
        ...

    def debian_package(self, package: str, where: Span | None) -> str:
        """The content that a distribution's package ``NAME=VERSION`` is pinned to, or nothing."""
        ...


class ContainerFiles(PackageFinder, Protocol):
    """What lies beside a container.yaml, and definitions of packages."""

    def kind(self, path: str) -> str:
        """``directory``, ``file``, or empty where there is nothing; `path` is seen from the definition's directory."""
        ...

    def is_inside(self, path: str) -> bool:
        """Whether a path is below the definition's directory also where links lead it."""
        ...

    def files(self, path: str) -> tuple[LocalFile, ...]:
        """Every file and empty directory below a directory (or the file itself, with an empty path), sorted."""
        ...
