from __future__ import annotations

import pytest

from boxwright.app.reasons import differences, match
from boxwright.store.history import StepRecord, field_records


def record(title: str, **fields: object) -> StepRecord:
    return StepRecord(title, "sha256:x", field_records(tuple(fields.items())))


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (
            {"state": "1", "command": ("/bin/sh", "-c", "echo a")},
            {"state": "2", "command": ("/bin/sh", "-c", "echo b")},
            ['command changed from "echo a" to "echo b"', "the step before it changed"],
        ),
        (
            {"environment": (("A", "1"),), "user": ""},
            {"environment": (("A", "2"),), "user": "app"},
            ['environment changed from "A=1" to "A=2"', 'user changed from nothing to "app"'],
        ),
        (
            {"sources": (("f", "a.txt", 420, "1", ""), ("f", "b.txt", 420, "2", ""))},
            {"sources": (("f", "a.txt", 420, "1", ""), ("f", "b.txt", 420, "3", ""))},
            ["sources changed: b.txt"],
        ),
        ({"sources": (("d", "", 493, "1", ""),)}, {"sources": (("d", "", 493, "2", ""),)}, ["sources changed"]),
        ({"command": "x" * 300}, {"command": "y" * 300}, ["command changed"]),
        ({"path": "/a"}, {"path": "/a"}, []),
    ],
)
def test_differences_in_words(before: dict[str, object], now: dict[str, object], words: list[str]) -> None:
    assert differences(record("step", **before), record("step", **now)) == words


def test_steps_are_found_again_where_others_came_between() -> None:
    one, two, three = record("RUN one", a=1), record("RUN two", a=1), record("RUN three", a=1)
    changed, added = record("RUN 2", a=2), record("COPY x", b=1)
    assert match([one, two, three], [one, added, two, three]) == [one, None, two, three]
    assert match([one, two, three], [one, changed, three]) == [one, two, three]
    assert match([], [one]) == [None]
