"""YAML text as a tree of values that know where they stand. Scalars stay the text that was written.

`1.10`, `0644` and `no` are what the user wrote; the schema says what a value is to be, not its looks (YAML 1.2.2,
section 10.1: the failsafe schema).
"""

from __future__ import annotations

from collections.abc import Sequence as List
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from boxwright.frontends.package.problem import wrong
from boxwright.model.span import Span

if TYPE_CHECKING:
    import yaml

MOST_DEPTH = 100
MOST_VALUES = 100_000
"""Aliases of aliases could stand for more values than memory holds."""


class Place(NamedTuple):
    """Lines and columns count from 1."""

    file: str
    line: int
    column: int

    @property
    def span(self) -> Span:
        """For errors."""
        return Span(self.file, self.line, self.column)


class Scalar(NamedTuple):
    """Text. `plain` when it was written without quotes, so that an empty one is no value at all."""

    text: str
    place: Place
    plain: bool = False


class Sequence(NamedTuple):
    """A list."""

    items: tuple[Value, ...]
    place: Place


class Mapping(NamedTuple):
    """Keys and values in the order in which they were written; no key twice."""

    items: dict[str, Value]
    place: Place
    keys: dict[str, Place]


Value: TypeAlias = Scalar | Sequence | Mapping


def parse_document(text: str, file: str) -> Mapping:
    """The mapping that a definition is. Raises DefinitionError `package.yaml` or `package.type` with the place."""
    value = parse_value(text, file)
    if value is None:
        return Mapping({}, Place(file, 1, 1), {})
    if not isinstance(value, Mapping):
        raise wrong("type", "a definition is a mapping of keys to values", value.place.span)
    return value


def parse_value(text: str, file: str, lines: List[int] = ()) -> Value | None:
    """Any document; None where there is nothing in it. Raises DefinitionError `package.yaml` with the place.

    Where `text` was made from a template, `lines` says for each of its lines from which of `file` it comes.
    """
    import yaml

    try:
        node = compose(text, getattr(yaml, "CBaseLoader", yaml.BaseLoader))
    except yaml.YAMLError as error:
        raise _syntax(error, file, lines) from error
    try:
        return None if node is None else _Reading(file, lines).value(node)
    except RecursionError as error:  # aliases of aliases
        raise wrong("yaml", "this is no YAML: too many values inside of each other", Span(file, 1)) from error


def compose(text: str, loader: Any) -> yaml.Node | None:  # noqa: ANN401 - yaml's loaders have no common class
    """The nodes of a document. Raises yaml.YAMLError, also where they are nested too deeply, or a node holds itself."""
    import yaml

    class Shallow(loader):  # type: ignore[misc] # a class that is only known here
        """Both of yaml's composers tell their resolver of each node's begin and end."""

        depth = 0

        def descend_resolver(self, parent: Any, index: Any) -> None:  # noqa: ANN401 - as yaml's
            self.depth += 1
            if self.depth > MOST_DEPTH:
                problem = f"more than {MOST_DEPTH} values inside of each other"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=parent.start_mark)
            super().descend_resolver(parent, index)

        def ascend_resolver(self) -> None:
            self.depth -= 1
            super().ascend_resolver()

    node: yaml.Node | None = yaml.compose(text, Loader=Shallow)
    if node is not None and "&" in text and "*" in text:
        _refuse_cycles(node, set(), set())
    return node


def _refuse_cycles(node: yaml.Node, inside: set[int], known: set[int]) -> None:
    """An alias may stand for what it is a part of: who reads that would never end."""
    import yaml

    if id(node) in inside:
        raise yaml.MarkedYAMLError(problem="a value is a part of itself", problem_mark=node.start_mark)
    if isinstance(node, yaml.ScalarNode) or id(node) in known:
        return
    inside.add(id(node))
    for item in node.value:
        for one in item if isinstance(item, tuple) else (item,):
            _refuse_cycles(one, inside, known)
    inside.remove(id(node))
    known.add(id(node))


def _line(number: int, lines: List[int]) -> int:
    """The line, from 1, of the template; `number` counts from 0."""
    return lines[min(number, len(lines) - 1)] if lines else number + 1


def _syntax(error: yaml.YAMLError, file: str, lines: List[int]) -> Exception:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = Span(file, _line(mark.line, lines), mark.column + 1) if mark else Span(file, 1)
    text = getattr(error, "problem", None) or str(error).splitlines()[0]
    return wrong("yaml", f"this is no YAML: {text}", where)


class _Reading:
    """One pass over the nodes of a document."""

    def __init__(self, file: str, lines: List[int]) -> None:
        self._file = file
        self._lines = lines
        self._count = 0

    def value(self, node: yaml.Node) -> Value:
        import yaml

        mark = node.start_mark
        place = Place(self._file, _line(mark.line, self._lines), mark.column + 1)
        self._count += 1
        if self._count > MOST_VALUES:
            raise wrong("yaml", f"the document has more than {MOST_VALUES} values", place.span)
        if isinstance(node, yaml.ScalarNode):
            if not _is_text(node.value):
                raise wrong("yaml", "a text holds a NUL or half a character (a surrogate)", place.span)
            return Scalar(node.value, place, node.style is None or node.style in ("", "plain"))
        if isinstance(node, yaml.SequenceNode):
            return Sequence(tuple(self.value(item) for item in node.value), place)
        items: dict[str, Value] = {}
        keys: dict[str, Place] = {}
        for key_node, value_node in node.value:
            key = self.value(key_node)
            if not isinstance(key, Scalar):
                raise wrong("type", "a key must be text", key.place.span)
            if key.text in items:
                raise wrong("twice", f"the key {key.text!r} stands here a second time", key.place.span)
            items[key.text] = self.value(value_node)
            keys[key.text] = key.place
        return Mapping(items, place, keys)


def _is_text(text: str) -> bool:
    """Whether programs can be given it: an escape may stand for what no argument and no file of text holds."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def plain(value: Value) -> object:
    """The same as texts, lists and dictionaries."""
    if isinstance(value, Scalar):
        return value.text
    if isinstance(value, Sequence):
        return [plain(item) for item in value.items]
    return {key: plain(item) for key, item in value.items.items()}


def is_nothing(value: Value) -> bool:
    """Whether a key was written without a value."""
    return isinstance(value, Scalar) and value.plain and value.text in ("", "~", "null")
