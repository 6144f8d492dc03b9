"""The life of build containers, walked by Hypothesis, with an engine in memory that fails whenever it is told to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from boxwright.engines.building.life import NEXT, Life, LivingContainer
from boxwright.engines.building.room import Room
from boxwright.errors import BoxwrightError
from boxwright.ports import BuildContainer, ContainerShape, EngineCommand, SeenPath

COMMAND = EngineCommand(("x",), ())


class BrokenError(BoxwrightError):
    def __init__(self) -> None:
        super().__init__("engine.refused", "told to fail")


class Memory:
    """An engine whose trees are tuples of words; `fails` is what its next call does."""

    name = "memory"
    is_local = True

    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, ...]] = {}
        self.running: set[MemoryContainer] = set()
        self.started = 0
        self.fails = False

    def check(self) -> None:
        if self.fails:
            self.fails = False
            raise BrokenError

    def states(self) -> set[str]:
        return set(self.kept)

    def load(self, state: str, archive: str) -> None:
        self.check()
        self.kept[state] = (state,)

    def start(self, state: str, shape: ContainerShape) -> BuildContainer:
        self.check()
        self.started += 1
        made = MemoryContainer(self, self.kept[state])
        self.running.add(made)
        return made

    def fetch(self, state: str, archive: str) -> str:
        return ""

    def forget(self, states: Collection[str]) -> None:
        for state in states:
            self.kept.pop(state, None)

    def sweep(self, owner: str = "") -> int:
        return 0

    def close(self) -> None:
        pass


class MemoryContainer:
    def __init__(self, engine: Memory, words: tuple[str, ...]) -> None:
        self.engine = engine
        self.words = words

    def execute(self, command: EngineCommand, output: Callable[[bytes], None], cancelled: Callable[[], bool]) -> int:
        self.words += command.argv
        self.engine.check()
        return 0

    def look(self, path: str) -> SeenPath | None:
        self.engine.check()
        return None

    def read(self, path: str) -> bytes | None:
        self.engine.check()
        return None

    def put(self, archive: str) -> None:
        self.words += (archive,)
        self.engine.check()

    def commit(self, state: str) -> None:
        self.engine.check()
        self.engine.kept[state] = self.words

    def remove(self) -> None:
        self.engine.running.discard(self)
        self.engine.check()


class OneLife(RuleBasedStateMachine):
    """One container: calls in any order, some of which fail."""

    @initialize()
    def begin(self) -> None:
        self.engine = Memory()
        self.engine.kept["base"] = ()
        self.living = LivingContainer(lambda: self.engine.start("base", ContainerShape()))
        self.seen = [Life.ABSENT]

    @rule(
        call=st.sampled_from(["start", "execute", "look", "read", "put", "commit", "spoil", "remove"]),
        fails=st.booleans(),
    )
    def do(self, call: str, *, fails: bool) -> None:
        before = self.living.life
        self.engine.fails = fails
        calls = {
            "start": self.living.start,
            "execute": lambda: self.living.execute(COMMAND, lambda _: None, lambda: False),
            "look": lambda: self.living.look("/"),
            "read": lambda: self.living.read("/"),
            "put": lambda: self.living.put("f"),
            "commit": lambda: self.living.commit("s"),
            "spoil": self.living.spoil,
            "remove": self.living.remove,
        }
        try:
            calls[call]()
        except BoxwrightError as error:
            if error.code == "engine.life":
                assert self.living.life is before, "a call at a wrong time changes nothing"
            else:
                assert self.living.life in (Life.FAILED, Life.GONE)
        else:
            expected = {"start": Life.READY, "remove": Life.GONE, "spoil": None}.get(call, Life.READY)
            assert expected is None or self.living.life is expected
        self.engine.fails = False
        self.seen.append(self.living.life)

    @invariant()
    def it_runs_only_while_it_may(self) -> None:
        if hasattr(self, "living"):
            assert bool(self.engine.running) <= (self.living.life in (Life.READY, Life.FAILED))
            assert self.engine.started <= 1

    def teardown(self) -> None:
        if hasattr(self, "living"):
            with contextlib.suppress(BoxwrightError):
                self.living.remove()
            assert self.living.life is Life.GONE
            assert not self.engine.running


class OneBuild(RuleBasedStateMachine):
    """A build's steps: each starts from some state, and is done, fails, or only looks."""

    @initialize()
    def begin(self) -> None:
        self.engine = Memory()
        self.room = Room(self.engine)
        self.room.load("base", _file)
        self.model: dict[str, tuple[str, ...]] = {"base": ("base",)}
        self.number = 0

    @rule(data=st.data(), ends=st.sampled_from(["kept", "unkept", "fails", "commit fails"]), network=st.booleans())
    def step(self, data: st.DataObject, ends: str, *, network: bool) -> None:
        self.number += 1
        state = data.draw(st.sampled_from(sorted(self.model)))
        shape = ContainerShape("default" if network else "none")
        word = f"w{self.number}"
        after = f"s{self.number}"
        with contextlib.suppress(BrokenError), self.room.held(state, shape) as container:
            self.engine.fails = ends == "fails"
            container.execute(EngineCommand((word,), ()), lambda _: None, lambda: False)
            self.engine.fails = ends == "commit fails"
            if ends in ("kept", "commit fails"):
                container.commit(after)
                self.model[after] = (*self.model[state], word)
        self.engine.fails = False

    @precondition(lambda self: hasattr(self, "model"))
    @invariant()
    def states_hold_what_led_to_them(self) -> None:
        assert self.engine.kept == self.model
        assert all(self.room.has(state) for state in self.model)
        assert len(self.engine.running) <= 2 * len(self.model)

    def teardown(self) -> None:
        if hasattr(self, "room"):
            self.room.close()
            assert not self.engine.running


def _file() -> str:
    import tempfile

    with tempfile.NamedTemporaryFile(delete=False) as file:
        return file.name


TestOneLife = OneLife.TestCase
TestOneLife.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestOneBuild = OneBuild.TestCase
TestOneBuild.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


def test_every_life_ends() -> None:
    for state in Life:
        reachable, waiting = set(), [state]
        while waiting:
            here = waiting.pop()
            if here not in reachable:
                reachable.add(here)
                waiting.extend(NEXT[here])
        assert Life.GONE in reachable
    assert not NEXT[Life.GONE]


def test_a_failure_at_the_end_still_removes_the_others() -> None:
    engine = Memory()
    room = Room(engine)
    room.load("base", _file)
    for name in ("a", "b"):
        with room.held("base", ContainerShape()) as container:
            container.commit(name)
    engine.fails = True
    with pytest.raises(BrokenError):
        room.close()
    assert not engine.running


def test_a_container_is_used_again_where_it_stands() -> None:
    engine = Memory()
    room = Room(engine)
    room.load("base", _file)
    with room.held("base", ContainerShape()) as container:
        container.commit("a")
    with room.held("a", ContainerShape()) as container:
        container.commit("b")
    with room.held("a", ContainerShape()) as container:
        container.commit("c")
    assert engine.started == 2
    room.close()
