"""What a definition asks of the world beside the text: the port, and what is known once it has been asked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

from boxwright.model.span import Span
from boxwright.model.step import BuildPackage, TestPackage

if TYPE_CHECKING:
    from boxwright.frontends.package.document import Mapping


class Found(NamedTuple):
    """A definition's file, and the version that was asked for there (empty: none)."""

    path: str
    version: str = ""


class PackageFiles(Protocol):
    """Definitions, what lies beside them, and what was pinned. Answers are recorded, so that they can be kept."""

    def document(self, path: str) -> Mapping:
        """The document in a file, its local paths made absolute."""
        ...

    def find(self, reference: str, near: str, where: Span | None) -> Found:
        """The definition of ``CATEGORY/NAME`` or ``CATEGORY/NAME-VERSION``, or of a path, seen from the file `near`."""
        ...

    def category(self, path: str) -> str:
        """The category of a definition in a package tree, empty elsewhere."""
        ...

    def local(self, path: str, where: Span | None) -> tuple[str, bool]:
        """A local file's content (``sha256:HEX``; of a directory that of its tar), and whether it can be run."""
        ...

    def is_directory(self, path: str) -> bool:
        """Whether a local source is a directory."""
        ...

    def checksum(self, urls: tuple[str, ...], where: Span | None, line: str) -> str:
        """The pinned SHA-256 of a URL. Raises `package.no-checksum` with the line to add where there is none."""
        ...

    def debian_files(self, package: str, version: str, sha256: str, where: Span | None) -> tuple[tuple[str, str], ...]:
        """The files of a source package, each with ``sha256:HEX``."""
        ...

    def debian_package(self, package: str, where: Span | None) -> str:
        """The digest of the file of a binary package ``NAME=VERSION``."""
        ...

    def toolchain(self, base: str, packages: tuple[str, ...], platform: str, where: Span | None) -> tuple[str, str]:
        """The exact name of a toolchain, and its pinned content or nothing."""
        ...

    def epoch(self) -> int | None:
        """SOURCE_DATE_EPOCH where the user gave it."""
        ...


class Requirement(NamedTuple):
    """Another package: a definition (`path`, `version`) or a distribution's (`debian`, ``NAME=VERSION``).

    `content` is the digest of the distribution's file.
    """

    path: str
    version: str
    debian: str
    runtime: bool
    line: int
    column: int
    content: str = ""


class Resolved(NamedTuple):
    """A definition, with everything about it decided. `step` does not know its visible dependencies yet.

    `watch` is where upstream lists versions: a page, a repository, and the pattern of names there.
    """

    path: str
    step: BuildPackage
    requirements: tuple[Requirement, ...]
    toolchain: tuple[str, str]
    test: TestPackage | None
    test_requirements: tuple[Requirement, ...] = ()
    watch: tuple[str, str, str] = ("", "", "")


def definition_name(step: BuildPackage) -> str:
    """``CATEGORY/NAME-VERSION``, or ``NAME-VERSION`` of one that stands in no tree."""
    return os.path.join(step.category, f"{step.name}-{step.version}")
