"""Why each step of a build would run: the plan, and what changed in keys since the last build, in words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from boxwright.app.build import Build
from boxwright.app.changes import SourceChanges
from boxwright.app.execution import history_name, step_records
from boxwright.app.request import BuildRequest
from boxwright.model.plan import Action, Decision
from boxwright.store.history import History, StepRecord
from boxwright.store.store import Store

SHELL = ["/bin/sh", "-c"]
LONGEST = 80
MOST_NAMES = 5


@dataclass(frozen=True, slots=True)
class Reason:
    """A step: whether it would run, and the reasons in words, the most telling first."""

    stage: str
    title: str
    runs: bool
    reasons: tuple[str, ...]


def reasons_of(build: Build, request: BuildRequest, store: Store) -> tuple[Reason, ...]:
    """One for each step, in the order of the graph."""
    last = History(store).last(history_name(build, request))
    now = step_records(build)
    changes = SourceChanges(build, store)
    reasons: list[Reason] = []
    for node, decision, record, before in zip(
        build.graph.nodes, build.plan.decisions, now, match(last, now), strict=True
    ):
        words = list(_words(decision, record, before, known=bool(last)))
        if before is not None and SOURCES_CHANGED in words:
            words[words.index(SOURCES_CHANGED)] = _named(changes.files(node, before.key))
        runs = decision.action not in (Action.REUSE, Action.UNUSED)
        reasons.append(Reason(node.stage, node.title, runs, tuple(words)))
    return tuple(reasons)


def match(last: Sequence[StepRecord], now: Sequence[StepRecord]) -> list[StepRecord | None]:
    """For each step the one of the last build that it was, None for a new one."""
    found: list[StepRecord | None] = [None] * len(now)
    matcher = SequenceMatcher(None, [record.title for record in last], [record.title for record in now], autojunk=False)
    for kind, from_last, to_last, from_now, to_now in matcher.get_opcodes():
        if kind in ("equal", "replace"):
            for before, position in zip(range(from_last, to_last), range(from_now, to_now), strict=False):
                if kind == "equal" or _kind(last[before]) == _kind(now[position]):
                    found[position] = last[before]
    return found


def _kind(record: StepRecord) -> tuple[str, ...]:
    return tuple(name for name, _ in record.fields) or (record.title.split(" ", 1)[0],)


def _words(decision: Decision, record: StepRecord, before: StepRecord | None, *, known: bool) -> tuple[str, ...]:
    if decision.action is Action.UNUSED:
        return (decision.reason,)
    changes = differences(before, record) if before is not None and before.key else []
    if decision.action is Action.REUSE:
        return ("cached", *changes)
    if not known:
        return ("there is no earlier build of this definition", decision.reason)
    if before is None:
        return ("the step is new",)
    if record.key and before.key == record.key:
        return ("nothing changed; what it left was removed (gc, fsck), or it is asked to run again",)
    return tuple(changes) if record.key and changes else (decision.reason,)


def differences(before: StepRecord, now: StepRecord) -> list[str]:
    """What is different between two records of a step, the state that it starts from last."""
    earlier, later = dict(before.fields), dict(now.fields)
    words = [
        _difference(name, earlier.get(name), later.get(name))
        for name in dict.fromkeys((*later, *earlier))
        if earlier.get(name) != later.get(name)
    ]
    words.sort(key=lambda text: text == STATE_CHANGED)
    return words


STATE_CHANGED = "the step before it changed"
SOURCES_CHANGED = "sources changed"
MOUNTED = {"trees": "what is mounted", "secrets": "secrets"}
"""Fields of RUN whose items begin with a name; the rest of them tells a person nothing."""


def _difference(name: str, before: str | None, now: str | None) -> str:
    if name == "state":
        return STATE_CHANGED
    if name == "sources":
        return _sources(before, now)
    if name in MOUNTED:
        return f"{MOUNTED[name]} changed{_changed_items(before, now)}"
    shown = (_shown(before), _shown(now))
    if None in shown:
        return f"{name} changed"
    return f"{name} changed from {shown[0]} to {shown[1]}"


def _shown(value: str | None) -> str | None:
    """A field as people read it; None where only its digest was kept."""
    if value is None or value in ("null", '""', "[]", ""):
        return "nothing"
    if value.startswith("sha256:"):
        return value if len(value) < LONGEST and value.count(":") > 1 else None
    data = _decoded(value)
    if isinstance(data, list) and data[:2] == SHELL:
        data = " ".join(map(str, data[2:]))
    if isinstance(data, list) and all(isinstance(item, list) and len(item) == 2 for item in data):
        data = " ".join(f"{item[0]}={item[1]}" for item in data)
    text = data if isinstance(data, str) else json.dumps(data)
    return f'"{text}"' if len(text) <= LONGEST else f'"{text[:LONGEST]}..."'


def _decoded(value: str) -> object:
    try:
        data: object = json.loads(value)
    except ValueError:
        return value
    return data


def _sources(before: str | None, now: str | None) -> str:
    earlier, later = (_by_name(_decoded(value or "")) for value in (before, now))
    if earlier is None or later is None:
        return SOURCES_CHANGED
    names = [name for name in dict.fromkeys((*later, *earlier)) if earlier.get(name) != later.get(name)]
    named = [name for name in names if name]
    return _named(named)


def _changed_items(before: str | None, now: str | None) -> str:
    earlier, later = (
        {str(item[0]): item for item in data if isinstance(item, list) and item} if isinstance(data, list) else {}
        for data in (_decoded(before or ""), _decoded(now or ""))
    )
    names = [name for name in dict.fromkeys((*later, *earlier)) if earlier.get(name) != later.get(name)]
    return f": {', '.join(names[:MOST_NAMES])}" if names else ""


def _named(names: Sequence[str]) -> str:
    if not names:
        return SOURCES_CHANGED
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"{SOURCES_CHANGED}: {', '.join(names[:MOST_NAMES])}{more}"


def _by_name(data: object) -> dict[str, object] | None:
    """Sources as `Selected.identity` has them, by the name under which they land (a directory's is empty)."""
    if not isinstance(data, list) or not all(isinstance(item, list) and len(item) > 1 for item in data):
        return None
    return {str(item[1]): item for item in data}
