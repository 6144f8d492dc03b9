"""What a manifest asks of the world: the port. Answers are noted, so that a graph is kept with what it stands on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from boxwright.model.span import Span

if TYPE_CHECKING:
    from boxwright.frontends.manifest.schema import KeyValue


class Tree(NamedTuple):
    """A build context, and a path in it."""

    context: str
    path: str


class FoundModule(NamedTuple):
    """A module in some repository."""

    file: str
    version: str


class LanguageDefault(NamedTuple):
    """A command that is the default where the file `needs` is there (always, where that is empty).

    `reads` are the files of the project that it needs; with them it is done before the whole project is copied.
    """

    run: str
    needs: str = ""
    reads: tuple[str, ...] = ()


ANY = "any"
"""The version of an image that is for all."""


class LanguageSpec(NamedTuple):
    """What a language stands for. `images` by version, the first is the default."""

    images: Mapping[str, str]
    prepare: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    install: tuple[LanguageDefault, ...] = ()
    script: tuple[LanguageDefault, ...] = ()


class ManifestWorld(Protocol):
    """Files, modules, facts and data."""

    def read(self, path: str, where: Span | None) -> str:
        """The text of a file. Raises `definition.not-found`."""
        ...

    def kind(self, path: str) -> str:
        """``directory``, ``file``, or empty where there is nothing."""
        ...

    def followed(self, path: str) -> str:
        """The path with all symbolic links followed."""
        ...

    def mode(self, path: str) -> int:
        """The permissions of a file."""
        ...

    def included(self, reference: str, near: str, where: Span) -> str:
        """The file that an include names, seen from the file `near`; fetched where it is a git repository's."""
        ...

    def module(self, name: str, version: str, origin: str, near: str, where: Span) -> FoundModule:
        """A module. Raises `module.not-found`, `module.version`, `module.changed`."""
        ...

    def tree(self, path: str) -> Tree | None:
        """The build context in which a path of this machine lies, and where it lies there; None outside of all."""
        ...

    def toolbox(self) -> Tree:
        """The toolbox that comes with us: the program `facts`."""
        ...

    def variable(self, name: str) -> str | None:
        """A variable of this program's environment, asked for with ``env()``."""
        ...

    def facts(self, image: str, where: Span) -> Mapping[str, object]:
        """What was found out about an image in a container of it."""
        ...

    def host(self) -> Mapping[str, object]:
        """What was found out about this machine."""
        ...

    def data(self, source: KeyValue, near: str, where: Span) -> Mapping[str, object]:
        """Key/value data. Raises `kv.unreachable`."""
        ...

    def language(self, name: str) -> LanguageSpec | None:
        """What a language stands for."""
        ...

    def languages(self) -> tuple[str, ...]:
        """The known languages."""
        ...
