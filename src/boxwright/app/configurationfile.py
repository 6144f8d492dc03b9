"""The text of ``.boxwright-config.yaml``: read by its schema, every mistake with its line."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, NoReturn, TypeVar

import msgspec
import yaml

from boxwright.app.configuration import Configuration
from boxwright.errors import DefinitionError
from boxwright.frontends.package.document import compose
from boxwright.model.span import Span
from boxwright.sources.reference import parse_base_name

_T = TypeVar("_T", bound=msgspec.Struct)
Distribution = Literal["debian", "ubuntu", "alpine"]
Mirror = Literal["debian", "ubuntu", "alpine", "debian-snapshot"]
_PATHS = ("oci", "oci-archive", "docker-archive", "tar")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[\.\.\.\]")


class BaseSpec(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A base system of one's own."""

    type: Distribution
    suite: str
    mirror: str = ""
    packages: tuple[str, ...] = ()
    variant: Literal["minbase", "buildd", "important", "standard", "system"] = "minbase"
    keyring: str = ""


class RegistrySpec(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How a registry (``HOST``, ``HOST/PATH``) is reached."""

    location: str = ""
    insecure: bool = False
    mirrors: tuple[str, ...] = ()


class File(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A configuration file; each base and language is read by itself.

    `repository` and `repositories` are read by what uses them.
    """

    bases: dict[str, object] = {}
    mirrors: dict[Mirror, str] = {}
    languages: dict[str, object] = {}
    modules: tuple[str, ...] = ()
    repository: object = None
    repositories: object = None
    registries: object = None


def read_configuration(paths: Sequence[str]) -> Configuration:
    """The files together; what an earlier one says holds. Raises DefinitionError with the line of a mistake."""
    bases: dict[str, str] = {}
    mirrors: dict[str, str] = {}
    languages: dict[str, Mapping[str, object]] = {}
    modules: dict[str, None] = {}
    for path in reversed(paths):
        node = _compose(path)
        if node is None:
            continue
        file = _convert(path, node, File)
        mirrors.update({str(name): url for name, url in file.mirrors.items()})
        for name, written in _section(node, "bases"):
            bases[name] = _base(path, name, written)
        for name, written in _section(node, "languages"):
            languages[name] = _language(path, written)
        beside = os.path.dirname(path)
        own = (it if "://" in it or it.startswith("image:") else os.path.join(beside, it) for it in file.modules)
        modules = {**dict.fromkeys(own), **modules}
    return Configuration(bases, mirrors, languages, tuple(modules))


class RepositoryNode(NamedTuple):
    """An entry of `repository` or `repositories`: its file, what stands there, and its `type` (empty: none given)."""

    path: str
    node: yaml.Node
    kind: str

    @property
    def where(self) -> Span:
        """Its place."""
        return _span(self.path, self.node)

    def convert(self, schema: type[_T]) -> _T:
        """The entry by its schema. Raises DefinitionError with the line of a mistake."""
        return _convert(self.path, self.node, schema)


def repository_nodes(paths: Sequence[str]) -> list[RepositoryNode]:
    """The repositories of the files, in the order in which they are asked."""
    found: list[RepositoryNode] = []
    for path in paths:
        node = _compose(path)
        if node is None:
            continue
        _convert(path, node, File)
        one, several = _below(node, "repository", ""), _below(node, "repositories", "")
        listed = several.value if isinstance(several, yaml.SequenceNode) else []
        if several is not None and not isinstance(several, yaml.SequenceNode):
            raise DefinitionError("config.wrong", "repositories: a list is expected", where=_span(path, several))
        for entry in ([one] if one is not None else []) + listed:
            if not isinstance(entry, yaml.MappingNode):
                raise DefinitionError("config.wrong", "a repository is a mapping", where=_span(path, entry))
            kind = _below(entry, "type", "")
            found.append(RepositoryNode(path, entry, kind.value if isinstance(kind, yaml.ScalarNode) else ""))
    return found


def read_registries(paths: Sequence[str]) -> dict[str, RegistrySpec]:
    """The section `registries` of the files; what an earlier one says holds."""
    found: dict[str, RegistrySpec] = {}
    for path in reversed(paths):
        node = _compose(path)
        section = _below(node, "registries", "") if node is not None else None
        if isinstance(section, yaml.MappingNode):
            found.update({key.value: _convert(path, value, RegistrySpec) for key, value in section.value})
    return found


def _language(path: str, node: yaml.Node) -> Mapping[str, object]:
    """What a language stands for: an image's name, or what languages.toml says of one."""
    from boxwright.frontends.manifest.language import LanguageEntry

    if isinstance(node, yaml.ScalarNode):
        return {"image": node.value}
    given = _convert(path, node, LanguageEntry)
    written = [key.value for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
    return {name: getattr(given, name) for name in written}


def _section(node: yaml.Node, name: str) -> list[tuple[str, yaml.Node]]:
    section = _below(node, name, "")
    return [(key.value, value) for key, value in section.value] if isinstance(section, yaml.MappingNode) else []


def _compose(path: str) -> yaml.Node | None:
    try:
        with open(path, encoding="utf-8") as stream:
            return compose(stream.read(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError("config.unreadable", f"{path} can't be read: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DefinitionError("config.syntax", f"this is no YAML: {error.problem}", where=Span(path, line)) from error


def _base(path: str, name: str, node: yaml.Node) -> str:
    """What a configured base stands for, as FROM takes it; paths count from the file's directory."""
    directory = os.path.dirname(path)
    if isinstance(node, yaml.ScalarNode):
        transport, colon, place = node.value.partition(":")
        inside = colon and transport in _PATHS
        return f"{transport}:{os.path.join(directory, place)}" if inside else str(node.value)
    if not isinstance(node, yaml.MappingNode):
        raise DefinitionError(
            "config.wrong", f"{name}: a reference or a mapping with `type` and `suite`", where=_span(path, node)
        )
    spec = _convert(path, node, BaseSpec)
    suite = spec.suite + "/system" * (spec.variant == "system")
    try:
        plain = parse_base_name(f"{spec.type}:{suite}")
    except DefinitionError as error:
        error.where = _span(path, node)
        raise
    whole = plain._replace(
        mirror=spec.mirror,
        packages=tuple(sorted(spec.packages)),
        variant="" if spec.variant in ("minbase", "system") else spec.variant,
        keyring=os.path.join(directory, spec.keyring) if spec.keyring else "",
    )
    return f"bootstrap:{whole}"


def _convert(path: str, node: yaml.Node, kind: type[_T]) -> _T:
    try:
        return msgspec.convert(_plain(path, node), kind, strict=False)
    except msgspec.ValidationError as error:
        _explain(path, node, kind, str(error))


def _plain(path: str, node: yaml.Node) -> object:
    """A node as dictionaries, lists and text: the schema says what a scalar is."""
    if isinstance(node, yaml.MappingNode):
        found: dict[str, object] = {}
        for key, value in node.value:
            if key.value in found:
                raise DefinitionError("config.twice", f"{key.value} is there twice", where=_span(path, key))
            found[key.value] = _plain(path, value)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_plain(path, item) for item in node.value]
    return node.value


def _span(path: str, node: yaml.Node) -> Span:
    return Span(path, node.start_mark.line + 1)


def _explain(path: str, root: yaml.Node, kind: type[msgspec.Struct], message: str) -> NoReturn:
    """A mistake with the line that it is in, and for an unknown key the nearest valid one."""
    what, _, place = message.partition(" - at ")
    place = place.strip("`").rpartition("`")[2]
    node = _follow(root, place)
    unknown = _UNKNOWN.search(what)
    if unknown is None:
        shown = place.removeprefix("$").lstrip(".") or "the file"
        raise DefinitionError("config.wrong", f"{shown}: {what}", where=_span(path, node))
    key = unknown[1]
    valid = [field.encode_name for field in msgspec.structs.fields(kind)]
    near = difflib.get_close_matches(key, valid, 1)
    keys = [name for name, _ in node.value if name.value == key] if isinstance(node, yaml.MappingNode) else []
    raise DefinitionError(
        "config.unknown-key",
        f"{key!r} is not known here",
        hint=f"did you mean {near[0]!r}?" if near else f"known are {', '.join(valid)}",
        where=_span(path, keys[0] if keys else node),
    )


def _follow(root: yaml.Node, place: str) -> yaml.Node:
    """The node that msgspec's path names, as deep as it says."""
    node = root
    for name, number in _STEP.findall(place.removeprefix("$")):
        below = _below(node, name, number)
        if below is None:
            return node
        node = below
    return node


def _below(node: yaml.Node, name: str, number: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == name), None)
    if isinstance(node, yaml.SequenceNode) and number and int(number) < len(node.value):
        item: yaml.Node = node.value[int(number)]
        return item
    return None
