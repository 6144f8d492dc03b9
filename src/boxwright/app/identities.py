"""What makes up the identity of a package, and how two identities differ."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from boxwright.app.packages import PackageBuild, prepare_package, with_lock
from boxwright.model.digest import digest_of, hex_of
from boxwright.model.keys import key_of
from boxwright.model.step import Base, BuildPackage
from boxwright.ports import StepInputs
from boxwright.steps import action
from boxwright.steps.package import described
from boxwright.store.packages import Packages
from boxwright.store.store import Store

RESULTS = frozenset(
    {"definition", "key", "archive", "content", "size", "files", "needs", "provides", "category", "dependencies"}
)
"""What a record says beside what went in. Dependencies are compared by name."""

LONGEST = 120


def identity_of(store: Store, given: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The fields of a package that was built, or of what a definition says now."""
    file = os.path.join(given, "pkg.yaml") if os.path.isdir(given) else given
    if not os.path.isfile(file):
        record = Packages(store).find(given).record
        return _flat({**record, "source": record["sources"], "dependency": record["dependencies"]})
    build = prepare_package(with_lock(file), store, environment, lambda _: None)
    node = build.graph.nodes[build.package]
    step = node.step
    assert isinstance(step, BuildPackage)  # noqa: S101 - the node is a package's
    states = [_input(build, number) for number in node.inputs]
    fields = {
        "format": action.FORMAT,
        "name": node.stage,
        "version": step.version,
        "platform": step.platform,
        "toolchain": states[0],
        "dependency": dict(zip(step.dependencies, states[1:], strict=True)),
        **described(step),
    }
    return _flat({**fields, "source": fields["sources"]})


def _input(build: PackageBuild, position: int) -> str:
    """What a toolchain or a dependency is: its content, else its HASH, else a digest of all that is known of it."""
    found = build.keys.of(position).state
    if found is not None:
        return found
    definition = build.keys.definition(position)
    if definition is not None:
        return f"not built, HASH {hex_of(definition)}"
    node = build.graph.nodes[position]
    if not isinstance(node.step, BuildPackage):
        return f"not here, {node.step.name if isinstance(node.step, Base) else node.title}"
    states = tuple(digest_of(_input(build, number).encode()) for number in node.inputs)
    known = build.keys.kind(node).fields(node.step, StepInputs(states, ())) or ()
    return f"not built, known as {hex_of(key_of(node.title, known))}"


def _flat(fields: Mapping[str, Any]) -> dict[str, str]:
    """Each field as text; lists of pairs and mappings by their names."""
    flat: dict[str, str] = {}
    for name, value in fields.items():
        if name in RESULTS or name == "sources":
            continue
        if name == "source":
            for number, source in enumerate(value):
                shown = {key: item for key, item in source.items() if key != "origins"}
                flat[f"source {number} ({source['files'][0][0]})"] = _text(shown)
        elif isinstance(value, Mapping):
            flat.update({f"{name} {key}": _text(item) for key, item in value.items()})
        elif isinstance(value, (list, tuple)) and value and all(_is_named(item) for item in value):
            flat.update({f"{name} {item[0]}": _text(item[1:]) for item in value})
        else:
            flat[name] = _text(value)
    return flat


def _is_named(item: object) -> bool:
    return isinstance(item, (list, tuple)) and len(item) > 1 and isinstance(item[0], str)


def _text(value: object) -> str:
    while isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[tuple[str, str | None, str | None]]:
    """The fields that are different: the name, and what it was and is; None where it is not there."""
    found: list[tuple[str, str | None, str | None]] = []
    for name in dict.fromkeys((*before, *after)):
        if before.get(name) != after.get(name):
            old, new = _differing(before.get(name), after.get(name))
            found.append((name, _short(old), _short(new)))
    return found


def _differing(before: str | None, after: str | None) -> tuple[str | None, str | None]:
    """Of two JSON objects what differs in them; other texts as they are."""
    if before is None or after is None or not (before.startswith("{") and after.startswith("{")):
        return before, after
    old, new = json.loads(before), json.loads(after)
    return (
        json.dumps({key: value for key, value in old.items() if new.get(key) != value}, sort_keys=True),
        json.dumps({key: value for key, value in new.items() if old.get(key) != value}, sort_keys=True),
    )


def _short(text: str | None) -> str | None:
    return text if text is None or len(text) <= LONGEST else f"{text[:LONGEST]}..."
