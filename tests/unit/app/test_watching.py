"""What `watch` does when members are silent: who is started elsewhere, when, and from which copy."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import pytest

from boxwright.app.stacks import watching
from boxwright.app.stacks.upkeep import Upkeep, copy_now
from boxwright.app.stacks.watching import Watcher
from boxwright.deploy.applying import Progress
from boxwright.deploy.history import releases_text, with_release
from boxwright.deploy.replicas import Patience
from boxwright.errors import BoxwrightError, UsageError
from boxwright.model.deployment import (
    OFFLINE,
    RUNNING,
    ContainerSpec,
    Desired,
    InstanceSpec,
    Member,
    MountSpec,
    NewInstance,
    VolumeSpec,
    instance_labels,
)
from boxwright.model.stack import Check, Update
from boxwright.model.volumes import VolumeCopy, VolumeSnapshot, VolumeState
from tests.unit.deploy.memory import MemoryEngine

SPEC = InstanceSpec("db", 1, "one", "db", mounts=(MountSpec("volume", "data", "/srv"),))
MEMBERS = (Member("n1"), Member("n2"), Member("n3"))
QUICK = Patience(member=0.0, stop=0.05, take_over=0.1, margin=0.0)


def engine_with(failover: str = "replica", **volume: object) -> MemoryEngine:
    """One where the volume's member n1 is silent, and n2 has a copy."""
    engine = MemoryEngine()
    engine.members = (MEMBERS[0]._replace(state=OFFLINE, unheard=True), *MEMBERS[1:])
    engine.volumes = {"data"}
    engine.states = {"data": VolumeState("data", "n1", copies=(VolumeCopy("n2", 100.0),))}
    spec = VolumeSpec("data", replicate=2)._replace(**volume)  # type: ignore[arg-type]
    desired = Desired("shop", (ContainerSpec("db", (SPEC,), failover=failover),), volumes=(spec,))
    engine.documents["releases"] = releases_text(with_release((), desired, "deploy", 1))
    engine.log.clear()
    return engine


def look(engine: MemoryEngine, watcher: Watcher) -> list[str]:
    engine.log.clear()
    watcher.look()
    return [it for it in engine.log if it.split()[0] in ("promote", "create", "start")]


def said(told: list[Progress]) -> list[tuple[str, str]]:
    return [(it.what, it.name) for it in told]


def test_a_copy_takes_over_after_its_time_where_the_member_is_guarded() -> None:
    engine = engine_with()
    engine.guarding = {"n1": 0.05}
    told: list[Progress] = []
    stake: list[object] = []
    watcher = Watcher(engine, "shop", told.append, patience=QUICK, note=stake.append)
    assert look(engine, watcher) == []
    time.sleep(0.11)
    assert look(engine, watcher) == ["promote data on n2", "create shop-db-1-g1", "start shop-db-1-g1"]
    assert ("move", "db-1") in said(told)
    assert stake[-1] == {"db"}
    assert engine.states["data"].copied == 100.0
    assert look(engine, watcher) == []


@pytest.mark.parametrize(
    ("home", "guards", "is_left"),
    [("n3", ("n1", "n2"), True), ("n3", ("n1",), False), ("n2", ("n1", "n2"), False), ("", ("n1", "n2"), False)],
)
def test_what_another_member_can_do_itself_is_left_to_it_for_a_while(
    monkeypatch: pytest.MonkeyPatch, home: str, guards: tuple[str, ...], *, is_left: bool
) -> None:
    monkeypatch.setattr(watching, "NEAR_SECONDS", 0.3)
    engine = engine_with()
    engine.member, engine.guarding, engine.promised = home, dict.fromkeys(guards, 0.05), 14.0
    watcher = Watcher(engine, "shop", lambda _: None, patience=QUICK)
    look(engine, watcher)
    time.sleep(0.11)
    done = ["promote data on n2", "create shop-db-1-g1", "start shop-db-1-g1"]
    assert look(engine, watcher) == ([] if is_left else done)
    time.sleep(0.31)
    assert look(engine, watcher) == (done if is_left else [])


@pytest.mark.parametrize(
    ("failover", "guards"), [("", {"n1": 0.05}), ("replica", {}), ("replica", {"n2": 0.05}), ("replica", {"n1": 5.0})]
)
def test_it_waits_without_the_word_of_the_stack_or_a_guard_that_stops_it_sooner(
    failover: str, guards: dict[str, float]
) -> None:
    engine = engine_with(failover)
    engine.guarding = guards
    watcher = Watcher(engine, "shop", lambda _: None, patience=QUICK)
    look(engine, watcher)
    time.sleep(0.15)
    assert look(engine, watcher) == []


def test_nothing_is_taken_from_a_member_that_can_not_be_reached_but_that_the_leader_hears() -> None:
    engine = engine_with()
    engine.guarding = {"n1": 0.05}
    engine.members = (MEMBERS[0]._replace(state=OFFLINE), *MEMBERS[1:])
    watcher = Watcher(engine, "shop", lambda _: None, patience=QUICK, fence=lambda _: True)
    for _ in range(3):
        assert look(engine, watcher) == []
        time.sleep(0.08)


def test_the_time_counts_from_when_it_could_not_be_reached_any_more() -> None:
    """The cluster says only later that it has not heard of it."""
    engine = engine_with()
    engine.guarding = {"n1": 0.05}
    silent, engine.members, engine.unreached = engine.members, MEMBERS, ("n1",)
    new = NewInstance("shop-db-1-g1", "shop", SPEC, instance_labels("shop", SPEC, 1, ()), (), ())
    engine.instances["shop-db-1-g1"] = (new, RUNNING)
    engine.places["shop-db-1-g1"] = "n1"
    watcher = Watcher(engine, "shop", lambda _: None, patience=QUICK)
    assert look(engine, watcher) == []
    time.sleep(0.11)
    engine.instances.clear()
    engine.members = silent
    assert look(engine, watcher)[:1] == ["promote data on n2"]


def test_a_member_that_answered_meanwhile_is_waited_for_anew() -> None:
    engine = engine_with()
    engine.guarding = {"n1": 0.05}
    watcher = Watcher(engine, "shop", lambda _: None, patience=QUICK)
    look(engine, watcher)
    silent, engine.members = engine.members, (MEMBERS[0]._replace(state="unsure"), *MEMBERS[1:])
    time.sleep(0.15)
    look(engine, watcher)
    engine.members = silent
    assert look(engine, watcher) == []


def test_a_fenced_member_is_not_waited_for_and_one_that_is_not_is() -> None:
    engine = engine_with()
    asked: list[str] = []
    answers = {"n1": False}

    def fence(member: str) -> bool:
        asked.append(member)
        return answers[member]

    long = Patience(member=0.0, stop=100.0, take_over=200.0)
    watcher = Watcher(engine, "shop", lambda _: None, patience=long, fence=fence)
    for _ in range(3):
        assert look(engine, watcher) == []
        time.sleep(0.02)
    assert asked == ["n1"], "once for each silence"
    answers["n1"] = True
    watcher = Watcher(engine, "shop", lambda _: None, patience=long, fence=fence)
    done = look(engine, watcher)
    time.sleep(0.05)
    assert [*done, *look(engine, watcher)][:1] == ["promote data on n2"]


def test_times_that_could_make_two_of_one_are_refused() -> None:
    with pytest.raises(UsageError) as refused:
        Watcher(MemoryEngine(), "shop", lambda _: None, patience=Patience(stop=10.0, take_over=10.0))
    assert refused.value.code == "usage.take-over"


def test_what_failed_is_tried_again_after_a_pause_that_begins_with_the_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "FIRST_PAUSE", 0.2)
    engine = engine_with()
    engine.members, engine.unwell = MEMBERS, {"one"}
    create = engine.create

    def slowly(new: NewInstance) -> None:
        time.sleep(0.3)
        create(new)

    monkeypatch.setattr(engine, "create", slowly)
    watcher = Watcher(engine, "shop", lambda _: None)
    assert look(engine, watcher) == ["create shop-db-1-g1", "start shop-db-1-g1"]
    assert look(engine, watcher) == []
    time.sleep(0.21)
    assert look(engine, watcher)[-1] == "start shop-db-1-g1"


def told_release(engine: MemoryEngine, *containers: ContainerSpec) -> None:
    desired = Desired("shop", containers)
    engine.documents["releases"] = releases_text(with_release((), desired, "deploy", 1))


def test_one_that_never_starts_does_not_keep_others_from_running() -> None:
    engine = MemoryEngine()
    job, web, late = (
        InstanceSpec(name, 1, image, image) for name, image in (("job", "bad"), ("web", "a"), ("late", "a"))
    )
    told_release(
        engine,
        ContainerSpec("job", (job,)),
        ContainerSpec("web", (web,)),
        ContainerSpec("late", (late,), (("job", "healthy"),)),
    )
    engine.unwell = {"bad"}
    told: list[Progress] = []
    Watcher(engine, "shop", told.append).look()
    assert [name for name, (_, state) in engine.instances.items() if state == RUNNING] == ["shop-web-1-g1"]
    assert ("failed", "job-1") in said(told)


def test_what_a_balancer_was_told_is_written_down_though_something_else_fails() -> None:
    engine = MemoryEngine()
    balancer, job = InstanceSpec("lb", 1, "a", "a"), InstanceSpec("job", 1, "bad", "bad")
    told_release(engine, ContainerSpec("lb", (balancer,)), ContainerSpec("job", (job,)))
    name = "shop-lb-1-g1"
    new = NewInstance(name, "shop", balancer, instance_labels("shop", balancer, 1, ()), (), ())
    engine.instances[name], engine.members, engine.unwell = (new, RUNNING), MEMBERS, {"bad"}
    engine.documents["untold"] = json.dumps([name]).encode()
    engine.places[name] = "n1"
    told: list[Progress] = []
    Watcher(engine, "shop", told.append).look()
    assert {("update", "lb-1"), ("failed", "job-1")} <= set(said(told))
    assert "untold" not in engine.documents


def refuse(*_: object) -> bytes:
    raise OSError("refused")


def test_a_slow_start_is_waited_for_only_so_long_and_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "WELL_SECONDS", 0.2)
    engine = MemoryEngine()
    monkeypatch.setattr(engine, "exchange", refuse)
    slow = Check("tcp", port=1, start_period=2.0, interval=0.02, retries=2)
    told_release(engine, ContainerSpec("slow", (InstanceSpec("slow", 1, "a", "a", health=slow),)))
    told: list[Progress] = []
    watcher = Watcher(engine, "shop", told.append)
    began = time.monotonic()
    watcher.look()
    engine.started["shop-slow-1-g1"] = time.time()
    assert time.monotonic() - began < 1.5
    while time.monotonic() - began < 1.5:
        watcher.look()
        time.sleep(0.03)
    assert said(told) == [("create", "slow-1")], "it may start still"
    while ("unwell", "slow-1") not in said(told):
        watcher.look()
        time.sleep(0.03)
        assert time.monotonic() - began < 10


def test_checks_are_asked_as_often_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = MemoryEngine()
    check = Check("tcp", port=1, interval=0.3, retries=3)
    told_release(engine, ContainerSpec("web", (InstanceSpec("web", 1, "a", "a", health=check),)))
    watcher = Watcher(engine, "shop", lambda _: None)
    monkeypatch.setattr(engine, "exchange", lambda *_: b"")
    watcher.look()
    asked: list[float] = []

    def note(*_: object) -> bytes:
        asked.append(time.monotonic())
        return b""

    monkeypatch.setattr(engine, "exchange", note)
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        watcher.look()
        time.sleep(0.02)
    assert 2 <= len(asked) <= 4


def test_lost_replicas_are_started_elsewhere_at_once_whatever_updates_wait_for() -> None:
    engine = MemoryEngine()
    specs = tuple(InstanceSpec("web", it, "a", "a") for it in (1, 2, 3))
    update = Update(canary=1, wait=60.0)
    told_release(engine, ContainerSpec("web", specs, update=update))
    engine.members = (MEMBERS[0]._replace(state=OFFLINE, unheard=True), *MEMBERS[1:])
    for spec in specs:
        name = f"shop-{spec.logical}-g1"
        engine.instances[name] = (
            NewInstance(name, "shop", spec, instance_labels("shop", spec, 1, ()), (), ()),
            RUNNING,
        )
        engine.places[name] = "n1"
    engine.absent = {"n1"}
    began = time.monotonic()
    Watcher(engine, "shop", lambda _: None, patience=QUICK).look()
    assert {f"shop-web-{it}-g2" for it in (1, 2, 3)} <= set(engine.instances)
    assert time.monotonic() - began < 10


def test_what_is_stale_goes_when_its_member_is_back() -> None:
    engine = engine_with()
    engine.members = MEMBERS
    engine.states["data"] = VolumeState("data", "n2", 2, stale=("n1",))
    new = NewInstance("shop-db-1-g2", "shop", SPEC, instance_labels("shop", SPEC, 2, ()), (), ())
    engine.instances["shop-db-1-g2"] = (new, RUNNING)
    engine.places["shop-db-1-g2"] = "n2"
    watcher = Watcher(engine, "shop", lambda _: None)
    watcher.look()
    assert "delete stale data on n1" in engine.log
    assert engine.instances["shop-db-1-g2"][1] == RUNNING
    assert engine.states["data"].stale == ()


# Copies and snapshots ------------------------------------------------------------------------------------------------


def test_copies_and_snapshots_are_made_when_they_are_due_and_failures_are_told_once() -> None:
    engine = engine_with(copy_every=3600.0, snapshot_every=3600.0)
    engine.members = MEMBERS
    told: list[Progress] = []
    upkeep = Upkeep(engine, "shop", told.append)
    for _ in range(3):
        upkeep.look()
    assert said(told) == [("snapshot", "data"), ("copy", "data")]
    assert copy_now(engine, "shop", "data") == ("n2",)
    with pytest.raises(BoxwrightError) as refused:
        copy_now(engine, "shop", "other")
    assert refused.value.code == "volume.no-copies"


def test_nothing_is_copied_while_a_deployment_is_under_way() -> None:
    engine = engine_with()
    engine.members = MEMBERS
    engine.documents["deploying"] = b"deploy"
    Upkeep(engine, "shop", lambda _: None).look()
    assert engine.log == []


class FullEngine(MemoryEngine):
    """Of which one volume can't be copied, and another one's snapshots not even be listed."""

    def copy_volume(self, stack: str, name: str, member: str) -> None:
        if name == "first":
            raise BoxwrightError("lxd.no-space", "there is no room")
        super().copy_volume(stack, name, member)

    def snapshots(self, stack: str, volume: str) -> Sequence[VolumeSnapshot]:
        if volume == "second":
            raise BoxwrightError("lxd.unreachable", "it can't be asked")
        return super().snapshots(stack, volume)


def test_a_volume_that_can_not_be_copied_keeps_no_other_from_being_copied() -> None:
    engine = FullEngine()
    engine.members = MEMBERS
    names = ("first", "second", "third")
    engine.volumes = set(names)
    engine.states = {it: VolumeState(it, "n1") for it in names}
    volumes = tuple(VolumeSpec(it, replicate=2, snapshot_every=3600.0) for it in names)
    desired = Desired("shop", (ContainerSpec("db", (SPEC,)),), volumes=volumes)
    engine.documents["releases"] = releases_text(with_release((), desired, "deploy", 1))
    told: list[Progress] = []
    upkeep = Upkeep(engine, "shop", told.append)
    for _ in range(3):
        upkeep.look()
    assert sorted(said(told)) == [
        ("copy", "second"),
        ("copy", "third"),
        ("failed", "first"),
        ("failed", "second"),
        ("snapshot", "first"),
        ("snapshot", "third"),
    ], "each failure once"


def test_copies_that_a_stack_does_not_want_any_more_are_removed_once_nothing_else_is_wanted() -> None:
    engine = engine_with(replicate=1)
    engine.members = MEMBERS
    upkeep = Upkeep(engine, "shop", lambda _: None)
    for _ in range(3):
        upkeep.look()
    assert engine.log == ["drop data on n2"]
    assert engine.states["data"].copies == ()
