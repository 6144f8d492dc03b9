"""What was changed at the prompt, as lines of the definition; written into it where their place is sure.

A place is sure when the definition with the lines in it becomes the very graph that was walked.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from boxwright.app.walking import Subject, Walker, command_text, packages_of
from boxwright.errors import BoxwrightError, UsageError
from boxwright.model.graph import Graph, Node
from boxwright.model.step import Copy, MakeDirectory, Run, Step
from boxwright.solver import walking
from boxwright.solver.walking import Typed, Walk

BESIDE = ".typed"
"""Ending of the file that holds the lines whose place in the definition can't be told."""

_ITEM = re.compile(r"^( *)-(?: +|$)")
_KEY = re.compile(r"^([A-Za-z][A-Za-z_-]*) *:")
_TEMPLATE = re.compile(r"\{\{|\{%|\{#")
_RUN_FLAGS = re.compile(r"\s*RUN\s+((?:--\S+\s+)*)", re.IGNORECASE)


class Saved(NamedTuple):
    """What became of it, in words; and the definition as it is now, where the changes are in it."""

    message: str
    subject: Subject | None = None


class _Change(NamedTuple):
    """Lines `first` to `last` (from 0, the last not included) become `lines`."""

    first: int
    last: int
    lines: tuple[str, ...]


def saved_lines(walker: Walker) -> str:
    """The changes as lines of the definition, each with a comment that says where it belongs."""
    return _manifest_lines(walker) if walker.subject.is_manifest else _recipe_lines(walker)


def save_into(walker: Walker, path: str) -> Saved:
    """Write the definition with the changes in it: over the old one, or to `path`, which must not be there.

    Where their place is not sure, the lines alone are written beside it. Raises UsageError `interactive.exists`.
    """
    definition = walker.subject.build.definition
    target = path or definition
    if path and os.path.lexists(path):
        raise UsageError("interactive.exists", f"{path} is there already", hint="`save -w` writes into the definition")
    with open(definition, encoding="utf-8", errors="surrogateescape", newline="") as file:
        text = file.read()
    over = walking.overlaid(walker.walk)
    for candidate in _candidates(walker, text):
        place = f"{os.path.dirname(definition) or '.'}/.{os.path.basename(definition)}.{os.getpid()}"
        try:
            _write(place, candidate, definition)
            subject = walker.subject.reread("", "", place)
            if same_graph(subject.build.graph, over.graph):
                os.rename(place, target)
                message = f"{target} has the changes now"
                return Saved(message, None if path else walker.subject.reread("", "", ""))
        except BoxwrightError:
            continue
        finally:
            if os.path.lexists(place):
                os.unlink(place)
    beside = f"{target}{BESIDE}"
    _write(beside, saved_lines(walker), definition)
    return Saved(f"where these lines belong in {definition} can't be told; they are in {beside}")


def _write(path: str, text: str, like: str) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(text)
    os.chmod(path, os.stat(like).st_mode & 0o7777)


def same_graph(first: Graph, second: Graph) -> bool:
    """Whether two graphs make the same of everything. Titles and places don't count."""
    known: dict[tuple[Step, tuple[int, ...]], int] = {}

    def ends(graph: Graph) -> tuple[object, ...]:
        numbers: list[int] = []
        for node in graph.nodes:
            numbers.append(known.setdefault((node.step, tuple(numbers[it] for it in node.inputs)), len(known)))
        return graph.config, numbers[graph.target], sorted(numbers[gate.node] for gate in graph.gates)

    return ends(first) == ends(second)


def _candidates(walker: Walker, text: str) -> Iterator[str]:
    """Texts of the definition with the changes in it, the likeliest first."""
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    for before, literally in itertools.product((False, True), (True, False)):
        try:
            changes = _changes_of(walker, [line.rstrip("\r\n") for line in lines], before=before, literally=literally)
        except LookupError:
            continue
        made = list(lines)
        for change in sorted(changes, key=lambda it: (it.first, it.last), reverse=True):
            made[change.first : change.last] = [f"{line}\n" for line in change.lines]
        yield "".join(made)
    if walker.subject.is_manifest and not any(line.startswith("install:") for line in lines):
        yield "".join((*lines, "install:\n", *(f"{line}\n" for line in _whole_install(walker))))


def _changes_of(walker: Walker, lines: Sequence[str], *, before: bool, literally: bool) -> list[_Change]:
    """The changes of lines; typed steps stand behind the one that they follow, or `before` the next one.

    `literally`: of what is edited only the old text is replaced, where it is there. Raises LookupError where one has no
    place.
    """
    walk = walker.walk
    dialect = _ManifestText(walker, lines) if walker.subject.is_manifest else _RecipeText(walker, lines)
    changes = [dialect.removed(number) for number in sorted(walk.skipped)]
    for number, node in walk.edited:
        change = dialect.replaced(number, node)
        changes.append(_literal(walker, number, node, change, lines) or change if literally else change)
    groups: dict[tuple[int, str], list[Typed]] = {}
    for typed in walk.typed:
        groups.setdefault((typed.after, typed.stage), []).append(typed)
    changes += [dialect.inserted(group, before=before) for group in groups.values()]
    return changes


def _literal(walker: Walker, number: int, node: Node, change: _Change, lines: Sequence[str]) -> _Change | None:
    """The lines with the old text replaced by the new one, where it is there just once."""
    shell = walker.shell_of(node)
    old, new = command_text(walker.walk.graph.nodes[number], shell) or "", command_text(node, shell) or ""
    text = "\n".join(lines[change.first : change.last])
    if text.count(old) != 1 or "\n" in new:
        return None
    return change._replace(lines=tuple(text.replace(old, new).split("\n")))


def _following(walk: Walk, typed: Typed) -> int | None:
    """The step of the file before which a typed one stands, in its stage."""
    steps = walking.listed(walk)
    behind = steps[steps.index(typed.number) + 1 :]
    found = next((it for it in behind if it >= 0), None)
    return found if found is not None and walk.graph.nodes[found].stage == typed.stage else None


def _whole_install(walker: Walker) -> Iterator[str]:
    """All commands behind what is copied, where a language's own would be left out by the first one that is written."""
    walk = walker.walk
    stage = walk.graph.nodes[walk.graph.target].stage
    nodes = [
        walking.node_of(walk, it)
        for it in walking.listed(walk)
        if it not in walk.skipped and walking.node_of(walk, it).stage == stage
    ]
    copied = max((n for n, node in enumerate(nodes) if isinstance(node.step, Copy)), default=0)
    for node in nodes[copied + 1 :]:
        yield from item_lines(task_of(node, walker), 2)


# Manifests -----------------------------------------------------------------------------------------------------------


class _ManifestText:
    """The text of a manifest: lists with an item a line."""

    def __init__(self, walker: Walker, lines: Sequence[str]) -> None:
        self._walker = walker
        self._lines = lines

    def removed(self, number: int) -> _Change:
        first, last, _ = self._item(number)
        return _Change(first, last, ())

    def replaced(self, number: int, node: Node) -> _Change:
        import yaml

        first, last, indent = self._item(number)
        old = "\n".join(self._lines[first:last])
        task = task_of(node, self._walker)
        if not _TEMPLATE.search(old):
            (given,) = yaml.safe_load(old)
            if isinstance(given, dict):
                more = task if isinstance(task, dict) else {"run": task}
                task = {**given, **more}
        return _Change(first, last, item_lines(task, indent))

    def inserted(self, group: list[Typed], *, before: bool) -> _Change:
        tasks = [task_of(it.node, self._walker) for it in group]
        following = _following(self._walker.walk, group[-1])
        anchor = following if before else group[0].after
        if anchor is not None and self._is_install(anchor):
            first, last, indent = self._item(anchor)
            at = first if before else last
            return _Change(at, at, tuple(line for task in tasks for line in item_lines(task, indent)))
        if before:
            raise LookupError(anchor)
        return self._at_the_start(tasks)

    def _at_the_start(self, tasks: list[object]) -> _Change:
        """As the first items of `install`, which may not be there yet."""
        key = next((number for number, line in enumerate(self._lines) if line.startswith("install:")), None)
        if key is None:
            end = len(self._lines)
            written = (line for task in tasks for line in item_lines(task, 2))
            return _Change(end, end, ("install:", *written))
        if self._lines[key].partition("#")[0].strip() != "install:":
            raise LookupError("install")
        item = next((found for line in self._lines[key + 1 :] if (found := _ITEM.match(line))), None)
        indent = len(item[1]) if item else 2
        return _Change(key + 1, key + 1, tuple(line for task in tasks for line in item_lines(task, indent)))

    def _is_install(self, number: int) -> bool:
        try:
            first, _, _ = self._item(number)
        except LookupError:
            return False
        keys = (found[1] for line in reversed(self._lines[:first]) if (found := _KEY.match(line)))
        return next(keys, "") == "install"

    def _item(self, number: int) -> tuple[int, int, int]:
        """First line, line behind the last, and indentation of the item that a step stands for."""
        graph = self._walker.walk.graph
        span = graph.nodes[number].span
        others = [n for n, node in enumerate(graph.nodes) if node.span == span and n in walking.listed(Walk(graph))]
        if span.file != self._walker.subject.build.definition or others != [number]:
            raise LookupError(number)
        first = span.line - 1
        while (found := _ITEM.match(self._lines[first])) is None:
            first -= 1
            if first < 0 or _KEY.match(self._lines[first]):
                raise LookupError(number)
        indent = len(found[1])
        last = first + 1
        for position in range(first + 1, len(self._lines)):
            line = self._lines[position]
            if line.strip():
                if len(line) - len(line.lstrip(" ")) <= indent:
                    break
                last = position + 1
        return first, last, indent


def task_of(node: Node, walker: Walker) -> object:
    """A step as a manifest says it. The settings of a typed one are those of any command."""
    text = command_text(node, walker.shell_of(node))
    names = packages_of(node)
    if names is not None:
        return {"apt": names.split()}
    if isinstance(node.step, MakeDirectory):
        return {"mkdir": node.step.path}
    if isinstance(node.step, Run) and node.step.argv[:-1] != walker.shell_of(node):
        return {"run": list(node.step.argv)}
    return text


def item_lines(task: object, indent: int) -> tuple[str, ...]:
    """An item of a list as YAML; what looks like a template is text."""
    from boxwright.app.manifest.converting import block_yaml

    lines = block_yaml([task]).rstrip("\n").split("\n")
    written = tuple(f"{' ' * indent}{line}" if line else "" for line in lines)
    if not any(_TEMPLATE.search(line) for line in written):
        return written
    raw = [f"{{% raw %}}{written[0]}", *written[1:]]
    return (*raw[:-1], f"{raw[-1]}{{% endraw %}}")


def _manifest_lines(walker: Walker) -> str:
    walk = walker.walk
    gates = {gate.stage for gate in walk.graph.gates}
    sections: dict[str, list[str]] = {"install": [], "script": []}
    edited = dict(walk.edited)
    last = ""
    for number in walking.listed(walk):
        node = walking.node_of(walk, number)
        into = sections["script" if node.stage in gates else "install"]
        shown = " ".join(node.title.split())
        if number < 0:
            into += [f"  # behind {last}", *item_lines(task_of(node, walker), 2)]
        elif number in walk.skipped:
            into.append(f"  # left out: {node.span}: {shown}")
        elif number in edited:
            old = " ".join(walk.graph.nodes[number].title.split())
            into += [f"  # instead of {node.span}: {old}", *item_lines(task_of(node, walker), 2)]
        last = shown
    return "".join(f"{name}:\n{chr(10).join(lines)}\n" for name, lines in sections.items() if lines)


# Recipes -------------------------------------------------------------------------------------------------------------


class _RecipeText:
    """The text of a recipe: an instruction stands on lines of its own."""

    def __init__(self, walker: Walker, lines: Sequence[str]) -> None:
        self._walker = walker
        self._lines = lines

    def removed(self, number: int) -> _Change:
        first, last = self._instruction(number)
        return _Change(first, last, ())

    def replaced(self, number: int, node: Node) -> _Change:
        first, last = self._instruction(number)
        flags = _RUN_FLAGS.match(self._lines[first])
        return _Change(first, last, _instruction(node, self._walker, flags[1] if flags else ""))

    def inserted(self, group: list[Typed], *, before: bool) -> _Change:
        lines = tuple(line for it in group for line in _instruction(it.node, self._walker))
        following = _following(self._walker.walk, group[-1])
        if before and following is None:
            raise LookupError(group)
        first, last = self._instruction(following if before and following is not None else group[0].after)
        at = first if before else last
        return _Change(at, at, lines)

    def _instruction(self, number: int) -> tuple[int, int]:
        span = self._walker.walk.graph.nodes[number].span
        if span.file != self._walker.subject.build.definition:
            raise LookupError(number)
        return span.line - 1, max(span.line, span.end_line)


def _instruction(node: Node, walker: Walker, flags: str = "") -> tuple[str, ...]:
    text = command_text(node, walker.shell_of(node)) or ""
    if isinstance(node.step, MakeDirectory):
        return (f"WORKDIR {text}",)
    if isinstance(node.step, Run) and node.step.argv[:-1] != walker.shell_of(node):
        import json

        return (f"RUN {flags}{json.dumps(list(node.step.argv))}",)
    return (f"RUN {flags}{text}",) if "\n" not in text else (f"RUN {flags}<<'END'", *text.split("\n"), "END")


def _recipe_lines(walker: Walker) -> str:
    walk = walker.walk
    edited = dict(walk.edited)
    lines: list[str] = []
    last = ""
    for number in walking.listed(walk):
        node = walking.node_of(walk, number)
        shown = " ".join(node.title.split())
        if number < 0:
            lines += [f"# behind {last}", *_instruction(node, walker)]
        elif number in walk.skipped:
            lines.append(f"# left out: {node.span}: {shown}")
        elif number in edited:
            old = " ".join(walk.graph.nodes[number].title.split())
            lines += [f"# instead of {node.span}: {old}", *_instruction(node, walker)]
        last = shown
    return "\n".join(lines) + "\n"
