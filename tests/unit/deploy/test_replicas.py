"""Copies of volumes: where they go, when they are due, who may take over and when."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwright.deploy.planning import INSTANCE, KEEP, MOVE, REMOVE, UPDATE, VOLUME, WAIT, Change, make_plan
from boxwright.deploy.replicas import (
    Patience,
    TakeOver,
    check_patience,
    copies_due,
    copies_unwanted,
    copy_targets,
    given_up,
    snapshot_due,
    snapshots_over,
    take_over,
)
from boxwright.errors import UsageError
from boxwright.model.deployment import (
    ABSENT,
    LEAVING,
    OFFLINE,
    ONLINE,
    RUNNING,
    STOPPED,
    UNSURE,
    ContainerSpec,
    Desired,
    Instance,
    InstanceSpec,
    Member,
    MountSpec,
    Observed,
    VolumeSpec,
    desired_from_text,
    desired_text,
    spec_hash,
)
from boxwright.model.volumes import (
    LATE_SECONDS,
    PROMISED_SECONDS,
    GuardNote,
    VolumeCopy,
    VolumeSnapshot,
    VolumeState,
    snapshot_name,
    snapshot_time,
)

MEMBERS = (Member("n1", "a"), Member("n2", "a"), Member("n3", "b"))
NAMES = [it.name for it in MEMBERS]
DB = InstanceSpec("db", 1, "one", "db", mounts=(MountSpec("volume", "data", "/srv"),))
members = st.sampled_from(NAMES)
states = st.builds(
    lambda home, copies: VolumeState("data", home, copies=tuple(VolumeCopy(it, copies[it]) for it in sorted(copies))),
    members,
    st.dictionaries(members, st.floats(1, 1000)),
)
NOW = 1_800_000_000.0
notes = st.builds(GuardNote, st.floats(0, 60), st.floats(NOW - 90, NOW + 20))
online = st.sets(members).map(lambda up: tuple(it if it.name in up else it._replace(state=OFFLINE) for it in MEMBERS))


def stack(spec: InstanceSpec = DB, failover: str = "replica", **more: object) -> Desired:
    volumes = tuple(VolumeSpec(it.source, replicate=2)._replace(**more) for it in spec.mounts)  # type: ignore[arg-type]
    return Desired("shop", (ContainerSpec("db", (spec,), failover=failover),), volumes=volumes)


def there(member: str, state: str = RUNNING, generation: int = 1, spec: InstanceSpec = DB) -> Instance:
    absent = state == ABSENT
    found = Instance(f"shop-db-1-g{generation}", "db", 1, generation, "" if absent else spec_hash(spec), state)
    return found._replace(spec=None if absent else spec, member=member)


def silent(*names: str) -> tuple[Member, ...]:
    return tuple(it._replace(state=OFFLINE) if it.name in names else it for it in MEMBERS)


def planned(
    instances: tuple[Instance, ...],
    volumes: tuple[VolumeState, ...],
    up: tuple[Member, ...],
    gone: tuple[str, ...] = (),
    desired: Desired | None = None,
) -> dict[tuple[str, str], Change]:
    places = tuple((it.name, it.member) for it in volumes)
    observed = Observed(instances, (), tuple(it.name for it in volumes), (), up, places, volumes)
    return {(it.kind, it.name): it for it in make_plan(desired or stack(), observed, gone).changes}


COPIED = VolumeState("data", "n1", copies=(VolumeCopy("n2", 100.0), VolumeCopy("n3", 200.0)))


# Taking over ---------------------------------------------------------------------------------------------------------


def test_the_newest_copy_takes_the_place_of_a_lost_volume() -> None:
    found = planned((there("n1", ABSENT),), (COPIED,), silent("n1"), ("n1",))[INSTANCE, "db-1"]
    assert (found.action, found.member, found.generation) == (MOVE, "n3", 2)
    assert (found.promoted, found.lost) == (("data",), "n1")


def test_it_waits_until_its_member_surely_runs_it_no_more() -> None:
    found = planned((there("n1", ABSENT),), (COPIED,), silent("n1"))[INSTANCE, "db-1"]
    assert (found.action, found.promoted) == (WAIT, ())


def test_it_waits_where_the_stack_does_not_say_that_it_may_move() -> None:
    found = planned((there("n1", ABSENT),), (COPIED,), silent("n1"), ("n1",), stack(failover=""))[INSTANCE, "db-1"]
    assert (found.action, found.promoted) == (WAIT, ())


def test_it_waits_where_nobody_who_answers_has_a_copy() -> None:
    alone = COPIED._replace(copies=())
    assert planned((there("n1", ABSENT),), (alone,), silent("n1"), ("n1",))[INSTANCE, "db-1"].action == WAIT
    found = planned((there("n1", ABSENT),), (COPIED,), silent("n1", "n2", "n3"), ("n1",))[INSTANCE, "db-1"]
    assert found.action == WAIT


def test_nothing_is_taken_from_a_member_that_answers_or_may_answer() -> None:
    """Whatever somebody thinks of it."""
    unsure = tuple(it._replace(state=UNSURE) if it.name == "n1" else it for it in MEMBERS)
    for up in (MEMBERS, unsure):
        for state in (RUNNING, STOPPED, ABSENT):
            found = planned((there("n1", state),), (COPIED,), up, ("n1", "n2", "n3"))[INSTANCE, "db-1"]
            assert not found.promoted


def test_a_member_that_was_removed_from_the_cluster_is_taken_over_from() -> None:
    found = planned((), (COPIED,), MEMBERS[1:], ("n1",))[INSTANCE, "db-1"]
    assert (found.action, found.member, found.promoted) == (MOVE, "n3", ("data",))


def test_several_volumes_are_taken_over_where_all_have_copies() -> None:
    spec = DB._replace(mounts=(*DB.mounts, MountSpec("volume", "log", "/log")))
    log = VolumeState("log", "n1", copies=(VolumeCopy("n2", 50.0),))
    found = planned((there("n1", ABSENT),), (COPIED, log), silent("n1"), ("n1",), stack(spec))[INSTANCE, "db-1"]
    assert (found.action, found.member, found.promoted) == (MOVE, "n2", ("data", "log"))


def test_an_interrupted_take_over_goes_on_where_it_was_begun() -> None:
    """One volume is on n2 already: the other one is taken over there too, though another member has a newer copy."""
    spec = DB._replace(mounts=(*DB.mounts, MountSpec("volume", "log", "/log")))
    begun = VolumeState("data", "n2", 2, copied=100.0)
    log = VolumeState("log", "n1", copies=(VolumeCopy("n2", 50.0), VolumeCopy("n3", 60.0)))
    found = planned((there("n1", ABSENT),), (begun, log), silent("n1"), ("n1",), stack(spec))[INSTANCE, "db-1"]
    assert (found.action, found.member, found.promoted) == (MOVE, "n2", ("log",))


@given(states, st.lists(members, unique=True))
def test_who_takes_over_has_a_copy_and_nobody_has_a_newer_one(state: VolumeState, allowed: list[str]) -> None:
    found = take_over(["data"], {"data": state}, allowed)
    times = {it.member: it.time for it in state.copies if it.member in allowed}
    if found is None:
        assert not times
    else:
        assert found == TakeOver(found.member, times[found.member])
        assert found.time == max(times.values())


@given(states, online, st.sets(members))
def test_a_volume_is_taken_from_nobody_who_is_not_given_up(
    state: VolumeState, up: tuple[Member, ...], gone: set[str]
) -> None:
    found = planned((there(state.member, ABSENT),), (state,), up, tuple(gone))[INSTANCE, "db-1"]
    if found.promoted:
        assert state.member in gone
        assert {it.name: it.state for it in up}[state.member] == OFFLINE
        assert {it.name: it.state for it in up}[found.member] == ONLINE
        assert found.member != state.member


# When the member is back ---------------------------------------------------------------------------------------------

MOVED = VolumeState("data", "n3", 2, copied=200.0, since=230.0, stale=("n1",))


@pytest.mark.parametrize("old", [RUNNING, STOPPED])
def test_the_stale_instance_and_volume_are_removed_never_the_live_ones(old: str) -> None:
    plan = planned((there("n1", old), there("n3", RUNNING, 2)), (MOVED,), MEMBERS)
    found = plan[INSTANCE, "db-1"]
    assert (found.action, found.kept and found.kept.member) == (UPDATE, "n3")
    assert [it.member for it in found.old] == ["n1"]
    assert (plan[VOLUME, "data"].action, plan[VOLUME, "data"].member) == (REMOVE, "n1")


@pytest.mark.parametrize("new", [(), (there("n3", STOPPED, 2),)])
def test_a_stale_instance_that_runs_is_not_kept_though_the_live_one_does_not(new: tuple[Instance, ...]) -> None:
    found = planned((there("n1"), *new), (MOVED,), MEMBERS)[INSTANCE, "db-1"]
    assert found.kept is None or found.kept.member == "n3"
    assert found.member in ("", "n3")
    assert "n1" in [it.member for it in found.old]


def test_stale_volumes_of_a_silent_member_wait() -> None:
    plan = planned((there("n1", ABSENT), there("n3", RUNNING, 2)), (MOVED,), silent("n1"))
    assert plan[INSTANCE, "db-1"].action == KEEP
    assert plan[VOLUME, "data"].action == KEEP


def test_what_a_restore_left_on_a_single_server_is_removed() -> None:
    plan = planned((there("", RUNNING),), (VolumeState("data", "", 2, stale=("",)),), ())
    assert (plan[VOLUME, "data"].action, plan[VOLUME, "data"].member) == (REMOVE, "")


# Times ---------------------------------------------------------------------------------------------------------------


@given(st.floats(0, 1000), st.floats(0, 1000))
def test_others_take_over_only_after_a_member_has_stopped_and_killed(stop: float, after: float) -> None:
    patience = Patience(stop=stop, take_over=after)
    if after - stop < patience.margin:
        with pytest.raises(UsageError) as refused:
            check_patience(patience)
        assert refused.value.code == "usage.take-over"
    else:
        assert patience.stop + check_patience(patience).grace + LATE_SECONDS < after


def test_times_that_are_no_numbers_are_refused() -> None:
    for patience in (
        Patience(take_over=math.nan),
        Patience(stop=math.nan),
        Patience(stop=math.inf, take_over=math.inf),
    ):
        with pytest.raises(UsageError) as refused:
            check_patience(patience)
        assert refused.value.code == "usage.take-over"


@given(st.dictionaries(members, st.floats(0, 60)), st.dictionaries(members, notes), st.sets(members), st.data())
def test_who_is_given_up_is_fenced_or_has_stopped_by_itself(
    quiet: dict[str, float], guards: dict[str, GuardNote], fenced: set[str], data: st.DataObject
) -> None:
    patience = Patience(stop=5.0, take_over=data.draw(st.floats(5.1, 60)))
    for name in given_up(quiet, guards, fenced, patience, NOW):
        assert name in quiet
        assert name in fenced or (guards[name].ended_after < patience.take_over <= quiet[name])
        assert name in fenced or guards[name].until + quiet[name] >= NOW
        assert name in fenced or NOW - guards[name].until + PROMISED_SECONDS > patience.take_over


def test_a_member_without_a_guard_is_never_given_up_by_time_alone() -> None:
    assert given_up({"n1": 10_000.0}, {}, (), Patience(), NOW) == set()
    before = NOW - 15
    assert given_up({"n1": 10_000.0}, {"n1": GuardNote(18.0, before)}, (), Patience(take_over=18.0), NOW) == set()
    assert given_up({"n1": 10_000.0}, {"n1": GuardNote(10.0, before)}, (), Patience(), NOW) == {"n1"}
    assert given_up({"n1": 0.0}, {}, ("n1", "n2"), Patience(), NOW) == {"n1"}


def test_who_had_a_quorum_lately_is_not_given_up_however_long_it_was_not_reached_from_here() -> None:
    for ago, gone in ((34.0, set()), (36.0, {"n1"})):
        note = GuardNote(28.0, NOW - ago + PROMISED_SECONDS)
        assert given_up({"n1": 3600.0}, {"n1": note}, (), Patience(), NOW) == gone


def test_a_guard_that_was_killed_before_its_member_fell_silent_is_none() -> None:
    for until, gone in ((NOW - 41, set()), (NOW - 39, {"n1"})):
        assert given_up({"n1": 40.0}, {"n1": GuardNote(20.0, until)}, (), Patience(), NOW) == gone


# Copies --------------------------------------------------------------------------------------------------------------


@given(states, online, st.integers(1, 4))
def test_copies_go_to_as_many_others_as_there_are_and_are_wanted(
    state: VolumeState, up: tuple[Member, ...], replicate: int
) -> None:
    found = copy_targets(VolumeSpec("data", replicate=replicate), state, up, {})
    others = [it.name for it in up if it.state == ONLINE and it.name != state.member]
    assert len(set(found)) == len(found) == min(len(others), replicate - 1)
    assert set(found) <= set(others)


def test_copies_go_to_other_failure_domains_first_and_stay_where_they_are() -> None:
    spec = VolumeSpec("data", replicate=2)
    assert copy_targets(spec, VolumeState("data", "n1"), MEMBERS, {"n3": 5}) == ("n3",)
    assert copy_targets(spec, VolumeState("data", "n1", copies=(VolumeCopy("n2", 1.0),)), MEMBERS, {}) == ("n2",)


def test_copies_of_several_volumes_are_spread() -> None:
    alike = tuple(it._replace(domain="") for it in MEMBERS)
    desired = Desired("shop", (), volumes=tuple(VolumeSpec(f"v{it}", replicate=2) for it in range(4)))
    found = copies_due(desired, [VolumeState(f"v{it}", "n1") for it in range(4)], alike, 1000.0)
    assert sorted(member for it in found.values() for member in it) == ["n2", "n2", "n3", "n3"]


@given(states, st.floats(0, 2000), st.floats(1, 100))
def test_a_copy_is_due_when_it_is_missing_or_too_old(state: VolumeState, now: float, every: float) -> None:
    found = copies_due(stack(copy_every=every), [state], MEMBERS, now).get("data", ())
    times = {it.member: it.time for it in state.copies}
    for member in copy_targets(VolumeSpec("data", replicate=2), state, MEMBERS, {}):
        assert (member in found) == (now - times.get(member, 0.0) >= every)


def test_nothing_is_copied_from_a_member_that_does_not_answer_or_that_is_everywhere() -> None:
    assert copies_due(stack(), [VolumeState("data", "n1")], silent("n1"), 1e9) == {}
    assert copies_due(stack(), [VolumeState("data")], MEMBERS, 1e9) == {}
    assert copies_due(stack(), [], MEMBERS, 1e9) == {}
    leaving = tuple(it._replace(state=LEAVING) if it.name == "n3" else it for it in MEMBERS)
    assert copies_due(stack(), [VolumeState("data", "n1")], leaving, 1e9) == {"data": ("n2",)}


def test_copies_that_are_too_many_go_the_oldest_first_and_one_beside_the_volume() -> None:
    state = COPIED._replace(copies=(*COPIED.copies, VolumeCopy("n1", 300.0)))
    assert copies_unwanted(VolumeSpec("data", replicate=2), state) == ("n1", "n2")
    assert copies_unwanted(VolumeSpec("data", replicate=3), COPIED) == ()
    assert copies_unwanted(VolumeSpec("data"), COPIED) == ("n3", "n2")


# Snapshots -----------------------------------------------------------------------------------------------------------


def test_snapshots_are_due_by_the_newest_scheduled_one() -> None:
    spec = VolumeSpec("data", snapshot_every=60.0, snapshot_keep=2)
    taken = [VolumeSnapshot("auto-1", 100.0), VolumeSnapshot("auto-2", 200.0), VolumeSnapshot("mine", 250.0)]
    assert not snapshot_due(spec, taken, 259.0)
    assert snapshot_due(spec, taken, 260.0)
    assert snapshot_due(spec, [], 0.0) is False
    assert snapshot_due(spec, [], 1000.0)
    assert not snapshot_due(VolumeSpec("data"), [], 1e9)


def test_scheduled_snapshots_that_are_too_many_go_and_others_stay() -> None:
    spec = VolumeSpec("data", snapshot_every=60.0, snapshot_keep=2)
    taken = [VolumeSnapshot(f"auto-{it}", float(it)) for it in range(5)] + [VolumeSnapshot("mine", 0.0)]
    assert snapshots_over(spec, taken) == ("auto-0", "auto-1", "auto-2")


@given(st.integers(0, 4_000_000_000))
def test_a_snapshots_name_says_its_time(moment: int) -> None:
    assert snapshot_time(f"auto-{snapshot_name(float(moment))}") == moment
    assert snapshot_time("before the update") == 0.0


def test_what_is_remembered_of_a_release_has_copies_snapshots_and_failover() -> None:
    desired = stack(copy_every=5.0, snapshot_every=60.0, snapshot_keep=3)
    assert desired_from_text(desired_text(desired)) == desired
