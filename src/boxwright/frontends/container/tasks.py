"""From a container.yaml's text to its tasks, in order: values rendered, keys and types checked."""

from __future__ import annotations

from collections.abc import Mapping as Map
from typing import NamedTuple, TypeAlias

from boxwright.frontends.container.problem import of_containers, wrong
from boxwright.frontends.container.schema import ImageTask, PackageTask, RunTask, SyncTask, Task, UserTask
from boxwright.frontends.container.values import Templates
from boxwright.frontends.package.convert import convert, known_keys
from boxwright.frontends.package.document import Mapping, Sequence, Value, is_nothing, parse_value
from boxwright.frontends.package.problem import nearest
from boxwright.model.span import Span

Content: TypeAlias = "PackageTask | SyncTask | RunTask | UserTask | ImageTask | str"


class Placed(NamedTuple):
    """A task: its key, what it says, where it stands, and the variables as they were there."""

    key: str
    content: Content
    value: Value
    where: Span
    variables: Templates


class Tasks(NamedTuple):
    """All tasks in order; `variables` as they are at the end."""

    tasks: tuple[Placed, ...]
    variables: Templates


def read_tasks(text: str, file: str, given: Map[str, str]) -> Tasks:
    """The tasks. `given` are variables from the command line, which win over those of the file."""
    with of_containers(file):
        document = parse_value(text, file)
        if document is None or not isinstance(document, Sequence):
            where = Span(file, 1) if document is None else document.place.span
            raise wrong("type", "a container definition is a list of tasks", where, hint=f"such as {EXAMPLE!r}")
        templates = Templates(given)
        tasks: list[Placed] = []
        for item in document.items:
            placed = _task(item, templates, given)
            if placed is not None:
                tasks.append(placed)
        return Tasks(tuple(tasks), templates)


EXAMPLE = "- package: {type: embedded, path: ./pkgs/nginx}"


def _task(item: Value, templates: Templates, given: Map[str, str]) -> Placed | None:
    if not isinstance(item, Mapping):
        raise wrong("type", "a task is a mapping", item.place.span, hint=f"such as {EXAMPLE!r}")
    known = known_keys(Task)
    for key in item.items:
        if key not in known:
            raise wrong("unknown-key", f"there is no task {key!r}", item.keys[key].span, hint=nearest(key, known))
    if len(item.items) != 1:
        second = list(item.keys.values())[-1].span if item.keys else item.place.span
        raise wrong("task", "one item of the list is one task", second, hint="begin the next one with a dash")
    key, value = next(iter(item.items.items()))
    where = item.keys[key].span
    if is_nothing(value):
        raise wrong("missing-key", f"the task {key!r} says nothing", where)
    if key == "vars":
        _set_variables(value, templates, given)
        return None
    rendered = templates.value(value)
    task = convert(Mapping({key: rendered}, item.place, item.keys), Task)
    content = getattr(task, key)
    return Placed(key, content, rendered, where, Templates(templates.variables))


def _set_variables(value: Value, templates: Templates, given: Map[str, str]) -> None:
    """Variables see those above them."""
    if not isinstance(value, Mapping):
        raise wrong("type", "variables are a mapping of names to values", value.place.span)
    for name, item in value.items.items():
        where = value.keys[name].span
        if not name.isidentifier():
            raise wrong("value", f"{name!r} can't be the name of a variable", where, hint="letters, digits and _")
        if isinstance(item, Mapping):
            raise wrong("type", "a variable is text or a list of texts", item.place.span)
        one = Mapping({name: templates.value(item)}, value.place, value.keys)
        task = convert(Mapping({"vars": one}, value.place, {"vars": value.place}), Task)
        templates.variables.update({key: text for key, text in (task.vars or {}).items() if key not in given})
