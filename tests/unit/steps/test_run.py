from __future__ import annotations

from typing import Any, cast

from boxwright.model.digest import Digest
from boxwright.model.step import Mount, Run
from boxwright.ports import StepInputs
from boxwright.steps.run import RunConditions, RunKind

STATE = Digest(f"sha256:{'0' * 64}")
INPUTS = StepInputs((STATE,), (None,))
PLAIN = ["state", "command", "environment", "directory", "user", "network", "security", "input", "mounts", "time"]


class Mounts:
    def fields(self, mounts: tuple[Mount, ...], inputs: StepInputs) -> Any:
        return (("trees", ("content",)),) if mounts[0].kind == "bind" else None


def fields_of(conditions: RunConditions, *mounts: Mount) -> Any:
    mounted = cast("Any", Mounts())
    nothing = cast("Any", None)
    kind = RunKind(
        nothing, nothing, layers_directory="", conditions=conditions, mounts=lambda: mounted, services=lambda: nothing
    )
    return kind.fields(Run(("true",), (), mounts=mounts), INPUTS)


def test_what_was_not_given_is_no_field() -> None:
    assert [name for name, _ in fields_of(RunConditions())] == PLAIN
    beside = RunConditions(proxies=(("http_proxy", "x"),), cgroup_parent="/builds")
    assert fields_of(beside) == fields_of(RunConditions())


def test_conditions_count() -> None:
    given = RunConditions(hosts=(("a", "192.0.2.1"),), limits=(("nofile", 1, 2),), shm_size=5)
    assert fields_of(given)[len(PLAIN) :] == (("hosts", ("a",)), ("limits", (("nofile", 1, 2),)), ("shm size", 5))
    assert fields_of(given._replace(hosts=(("a", "192.0.2.2"),))) == fields_of(given)


def test_mounts_count() -> None:
    assert [name for name, _ in fields_of(RunConditions(), Mount("bind", "/m"))] == [*PLAIN, "trees"]
    assert fields_of(RunConditions(), Mount("cache", "/m")) is None, "a tree of it has not been built"
