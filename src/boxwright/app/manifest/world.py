"""What a manifest asks of the world; each answer is noted, so that what was made of them can be kept."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from boxwright.app.configuration import Configuration
from boxwright.app.definitions import MANIFESTS, is_inside, read_definition
from boxwright.app.manifest.imagetrees import parse_image_address
from boxwright.app.manifest.modules import (
    Candidate,
    as_found,
    check_pin,
    find_module,
    module_trees,
    read_pins,
)
from boxwright.app.packagefiles import stamp
from boxwright.errors import DefinitionError
from boxwright.frontends.manifest.wanted import FoundModule, LanguageSpec, Tree
from boxwright.model.giturl import GitUrl, parse_git_url
from boxwright.model.span import Span
from boxwright.model.step import Fetch
from boxwright.ports import ResolvedBase, Resolver
from boxwright.store.store import Store

if TYPE_CHECKING:
    from boxwright.frontends.manifest.language import LanguageEntry
    from boxwright.frontends.manifest.schema import KeyValue

Facts = Callable[[str, Span], Mapping[str, object]]
ImageTree = Callable[[str, Span], str]
"""Makes an image's tree a directory."""


def is_fetched(address: str) -> bool:
    """Whether it is the address of a git repository or an image, and no path."""
    return parse_image_address(address) is not None or parse_git_url(address) is not None


class NotingResolver:
    """A resolver whose answers are noted."""

    def __init__(self, inner: Resolver) -> None:
        self._inner = inner
        self.answers: dict[tuple[str, str], ResolvedBase] = {}

    def base(self, name: str, platform: str, where: Span) -> ResolvedBase:
        """What a base's name means."""
        found = self._inner.base(name, platform, where)
        self.answers[name, platform] = found
        return found

    def recipe(self, name: str) -> tuple[str, str]:
        """A recipe that comes with the program."""
        return self._inner.recipe(name)


TOOLBOX = "boxwright:toolbox"
"""The context of this program's own toolbox."""


class DirectoryWorld:
    """The world as it is seen from a definition's directory.

    `contexts` are the directories that steps take files from, by name. What depends on a server or on this machine is
    `fleeting`: nobody can say later whether it is still so without asking again.
    """

    def __init__(
        self,
        directory: str,
        store: Store,
        environment: Mapping[str, str],
        configuration: Configuration,
        gather: Facts,
        resolver: NotingResolver,
        image_tree: ImageTree,
    ) -> None:
        self._directory = os.path.realpath(directory)
        self._store = store
        self._environment = environment
        self._configuration = configuration
        self._gather = gather
        self.resolver = resolver
        self._image_tree = image_tree
        self._pins: dict[str, dict[str, str]] | None = None
        self._languages: Mapping[str, LanguageEntry] | None = None
        self._opened: dict[str, str] = {}
        self.contexts: dict[str, str] = {}
        self.looked: dict[str, str] = {}
        self.asked: dict[str, str | None] = {}
        self.modules: dict[str, Candidate] = {}
        self.fleeting = False
        self.locking = False

    def answers(self) -> Mapping[tuple[str, str], ResolvedBase]:
        """What bases meant."""
        return self.resolver.answers

    # Files ---------------------------------------------------------------------------------------------------------

    def _look(self, path: str) -> str:
        absolute = os.path.abspath(path)
        found = self.looked.get(absolute)
        if found is None:
            found = self.looked[absolute] = stamp(absolute)
        return found

    def read(self, path: str, where: Span | None) -> str:
        """The text of a file."""
        self._look(path)
        self._stay_inside(path, path, where)
        if not os.path.isfile(path):
            raise DefinitionError("definition.not-found", f"there is no file {path}", where=where)
        return read_definition(path)

    def _stay_inside(self, near: str, path: str, where: Span | None) -> None:
        """What was fetched together with `near` names nothing beside it, also by links. Raises `manifest.outside`."""
        for place in self._opened.values():
            if os.path.abspath(near).startswith(f"{place}/") and not is_inside(place, path):
                shown = os.path.relpath(path, os.path.dirname(near)) if path != near else os.path.basename(path)
                message = f"{shown} leads out of the repository that it came with"
                raise DefinitionError("manifest.outside", message, where=where)

    def kind(self, path: str) -> str:
        """``directory``, ``file``, or empty."""
        if os.path.isdir(path):
            # Of a directory only that it is there counts here: its content is read by the step.
            self.looked.setdefault(os.path.abspath(path), "directory")
            return "directory"
        self._look(path)
        return "file" if os.path.lexists(path) else ""

    def followed(self, path: str) -> str:
        """The path with all symbolic links followed."""
        return os.path.realpath(path)

    def mode(self, path: str) -> int:
        """The permissions of a file."""
        self._look(path)
        return stat.S_IMODE(os.stat(path).st_mode)

    def tree(self, path: str) -> Tree | None:
        """The build context in which a path lies."""
        whole = os.path.join(os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path))
        whole = os.path.normpath(whole)
        places = sorted(self.contexts.items(), key=lambda item: len(item[1]), reverse=True)
        for name, place in (*places, ("", self._directory)):
            if whole == place or whole.startswith(f"{place}/"):
                inside = os.path.relpath(whole, place)
                return Tree(name, "" if inside == "." else inside)
        return None

    def toolbox(self) -> Tree:
        """The toolbox that comes with us."""
        from boxwright.app.manifest.facts import toolbox

        self.contexts[TOOLBOX] = str(toolbox())
        return Tree(TOOLBOX, "/")

    def included(self, reference: str, near: str, where: Span) -> str:
        """The file that an include names."""
        is_here = os.path.exists(os.path.join(os.path.dirname(near), reference))
        fetched = None if is_here else self._fetched(reference, where)
        path = fetched or os.path.normpath(os.path.join(os.path.dirname(near), reference))
        self._stay_inside(near if fetched is None else os.path.join(path, MANIFESTS[0]), path, where)
        if os.path.isdir(path):
            inside = [name for name in MANIFESTS if os.path.isfile(os.path.join(path, name))]
            path = os.path.join(path, inside[0] if inside else MANIFESTS[0])
        self._look(path)
        if not os.path.isfile(path):
            raise DefinitionError("manifest.no-file", f"there is no manifest {reference}", where=where)
        outside = os.path.dirname(os.path.realpath(path))
        if self.tree(path) is None:
            self.contexts[f"include:{reference}"] = outside
        return path

    def _fetched(self, address: str, where: Span | None) -> str | None:
        """The directory that an address of git, or ``image:NAME``, means; None where it is neither."""
        image = parse_image_address(address)
        if image is not None:
            return os.path.join(self._image(image.name, where), image.subdirectory)
        url = parse_git_url(address)
        return None if url is None else os.path.join(self._repository(url), url.subdirectory)

    def _image(self, name: str, where: Span | None) -> str:
        """An image's files, brought for this build."""
        self.fleeting = True
        key = f"image:{name}"
        if key not in self._opened:
            directory = self._image_tree(name, where or Span(self._directory, 1))
            self._opened[key] = self.contexts[key] = os.path.realpath(directory)
        return self._opened[key]

    def _repository(self, url: GitUrl) -> str:
        """A git repository's files, fetched for this build."""
        self.fleeting = True
        key = f"{url.remote}#{url.ref}"
        if key not in self._opened:
            from boxwright.app.remotes import Remotes

            directory = self._store.scratch()
            remotes, step = Remotes(self._store), Fetch("git", url.remote, ref=url.ref)
            remotes.fetch(step, remotes.identify(step), directory, lambda: False)
            self._opened[key] = self.contexts[f"git:{key}"] = os.path.realpath(directory)
        return self._opened[key]

    # Modules and languages -----------------------------------------------------------------------------------------

    def module(self, name: str, version: str, origin: str, near: str, where: Span) -> FoundModule:
        """A module of the nearest repository that has it."""
        place = os.path.dirname(os.path.abspath(near))
        if origin:
            trees: tuple[str, ...] = (origin if is_fetched(origin) else os.path.join(place, origin),)
            if not is_fetched(origin):
                self._stay_inside(near, trees[0], where)
        else:
            trees = self.module_places(place)
        found = find_module(name, version, trees, lambda tree: self.opened(tree, where), where)
        if self._pins is None:
            self._look(os.path.join(self._directory, "boxwright.lock"))
            self._pins = {} if self.locking else read_pins(self._directory)
        check_pin(found, self._pins, where)
        for parent, _, files in os.walk(found.directory):
            for file in files:
                self._look(f"{parent}/{file}")
        self.modules[name] = found
        self.contexts[f"module:{name}"] = os.path.realpath(found.directory)
        return as_found(found)

    def module_places(self, near: str) -> tuple[str, ...]:
        """The repositories of modules."""
        return module_trees(near, self._environment, self._configuration.modules)

    def opened(self, tree: str, where: Span | None = None) -> str:
        """A repository of modules as a directory."""
        return tree if os.path.isdir(tree) else self._fetched(tree, where) or tree

    def _entries(self) -> Mapping[str, LanguageEntry]:
        if self._languages is None:
            from boxwright.frontends.manifest.language import all_languages

            self._languages = all_languages(self._configuration.languages)
        return self._languages

    def language(self, name: str) -> LanguageSpec | None:
        """What a language stands for."""
        from boxwright.frontends.manifest.language import language_spec

        entry = self._entries().get(name)
        return None if entry is None else language_spec(entry)

    def languages(self) -> tuple[str, ...]:
        """The known languages."""
        return tuple(self._entries())

    # Facts and data ------------------------------------------------------------------------------------------------

    def variable(self, name: str) -> str | None:
        """A variable of this program's environment."""
        found = self.asked[name] = self._environment.get(name)
        return found

    def facts(self, image: str, where: Span) -> Mapping[str, object]:
        """What was found out about an image."""
        return self._gather(image, where)

    def host(self) -> Mapping[str, object]:
        """What was found out about this machine."""
        from boxwright.app.manifest.facts import host_facts

        self.fleeting = True
        return host_facts()

    def data(self, source: KeyValue, near: str, where: Span) -> Mapping[str, object]:
        """Key/value data."""
        from boxwright.app.manifest.keyvalue import read_data

        if source.yaml:
            path = os.path.join(os.path.dirname(near), source.yaml)
            self._look(path)
            self._stay_inside(near, path, where)
        else:
            self.fleeting = True
        return read_data(source, near, where, self._environment)
