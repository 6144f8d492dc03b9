"""Several endpoints: where steps go, what is brought where, and what happens when one is lost."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack

import pytest

from boxwright.engines.building.endpoints import Endpoints, LostEndpointError
from boxwright.engines.building.room import Room
from boxwright.errors import BoxwrightError, MachineError
from boxwright.ports import ContainerShape, EngineCommand
from tests.unit.engines.building.test_life import Memory

SHAPE = ContainerShape()


class Losing(Memory):
    """Does not answer any more once it is `lost`."""

    lost = False

    def check(self) -> None:
        if self.lost:
            raise MachineError("engine.unreachable", "gone")

    def fetch(self, state: str, archive: str) -> str:
        self.check()
        with open(archive, "xb"):
            return ""


def empty_file() -> str:
    with tempfile.NamedTemporaryFile(delete=False) as file:
        return file.name


@pytest.fixture
def engines() -> dict[str, Losing]:
    return {"a": Losing(), "b": Losing()}


@pytest.fixture
def endpoints(engines: dict[str, Losing]) -> Endpoints:
    made = Endpoints({name: Room(engine) for name, engine in engines.items()})
    made.load("base", empty_file)
    return made


def step(endpoints: Endpoints, state: str, after: str) -> None:
    with endpoints.held(state, SHAPE) as container:
        container.execute(EngineCommand((after,), ()), print, lambda: False)
        container.commit(after)


def test_a_chain_stays_where_its_states_are(endpoints: Endpoints, engines: dict[str, Losing]) -> None:
    step(endpoints, "base", "s1")
    step(endpoints, "s1", "s2")
    assert sorted(len(engine.kept) for engine in engines.values()) == [0, 3]
    assert sum(engine.started for engine in engines.values()) == 1
    endpoints.close()


def test_what_begins_at_a_base_is_spread(endpoints: Endpoints, engines: dict[str, Losing]) -> None:
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(endpoints.held("base", SHAPE))
        assert [len(engine.running) for engine in engines.values()] == [2, 2]
    assert not any(engine.running for engine in engines.values())


def test_a_state_is_brought_to_who_has_less_to_do(endpoints: Endpoints, engines: dict[str, Losing]) -> None:
    step(endpoints, "base", "s1")
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(endpoints.held("s1", SHAPE))
        assert all("s1" in engine.kept for engine in engines.values())
        assert sorted(len(engine.running) for engine in engines.values()) in ([1, 3], [2, 2])
    endpoints.close()


def test_a_lost_endpoint_takes_its_states_with_it(endpoints: Endpoints, engines: dict[str, Losing]) -> None:
    step(endpoints, "base", "s1")
    first = next(engine for engine in engines.values() if engine.kept)
    first.lost = True
    with pytest.raises(LostEndpointError):
        step(endpoints, "s1", "s2")
    assert not endpoints.has("s1")
    step(endpoints, "base", "s1")
    step(endpoints, "s1", "s2")
    assert endpoints.has("s2")
    endpoints.close()


def test_the_last_one_lost_is_an_error(endpoints: Endpoints, engines: dict[str, Losing]) -> None:
    for engine in engines.values():
        engine.lost = True
    for _ in engines:
        with pytest.raises(BoxwrightError):
            step(endpoints, "base", "s1")
    with pytest.raises(MachineError):
        step(endpoints, "base", "s1")
