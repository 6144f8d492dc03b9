"""Members of a cluster: where instances go, what happens when a member is silent or is being emptied."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from boxwright.deploy.planning import CREATE, KEEP, MOVE, REMOVE, REPLACE, UPDATE, WAIT, Change, make_plan, restart_plan
from boxwright.model.deployment import (
    ABSENT,
    LEAVING,
    OFFLINE,
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
    spec_hash,
)
from boxwright.model.image import Port
from boxwright.model.stack import Placement, StackPublished

MEMBERS = (Member("n1", "a"), Member("n2", "a"), Member("n3", "b"))


def web(number: int, **more: object) -> InstanceSpec:
    return InstanceSpec("web", number, "one", "web")._replace(**more)  # type: ignore[arg-type]


def stack(*specs: InstanceSpec, volumes: tuple[str, ...] = ()) -> Desired:
    names = dict.fromkeys(it.container for it in specs)
    containers = tuple(ContainerSpec(name, tuple(it for it in specs if it.container == name)) for name in names)
    return Desired("shop", containers, volumes=tuple(VolumeSpec(it) for it in volumes))


def there(spec: InstanceSpec, member: str, state: str = RUNNING, generation: int = 1) -> Instance:
    name = f"shop-{spec.logical}-g{generation}"
    absent = state == ABSENT
    found = Instance(name, spec.container, spec.number, generation, "" if absent else spec_hash(spec), state)
    return found._replace(spec=None if absent else spec, member=member)


def silent(*names: str) -> tuple[Member, ...]:
    return tuple(it._replace(state=OFFLINE) if it.name in names else it for it in MEMBERS)


def changes(desired: Desired, *instances: Instance, members: tuple[Member, ...] = MEMBERS) -> dict[str, Change]:
    return {it.name: it for it in make_plan(desired, Observed(instances, members=members)).changes}


def test_replicas_are_spread_over_members() -> None:
    plan = changes(stack(*(web(it) for it in range(1, 7))))
    assert sorted(it.member for it in plan.values()) == ["n1", "n1", "n2", "n2", "n3", "n3"]
    assert {it.action for it in plan.values()} == {CREATE}


def test_replicas_are_spread_over_failure_domains_first() -> None:
    plan = changes(stack(*(web(it, placement=Placement("domain")) for it in range(1, 5))))
    assert sorted(it.member for it in plan.values()) == ["n1", "n2", "n3", "n3"]


@given(st.integers(1, 12), st.sets(st.sampled_from(["n1", "n2", "n3"]), min_size=1))
def test_the_spread_is_even_over_those_that_may_be_used(count: int, on: set[str]) -> None:
    placement = Placement("", tuple(sorted(on)))
    plan = changes(stack(*(web(it, placement=placement) for it in range(1, count + 1))))
    counts = [sum(it.member == name for it in plan.values()) for name in on]
    assert sum(counts) == count
    assert max(counts) - min(counts) <= 1


def test_a_replaced_instance_stays_on_its_member() -> None:
    old = web(1, image="zero")
    plan = changes(stack(web(1)), there(old, "n3"))
    assert (plan["web-1"].action, plan["web-1"].member, plan["web-1"].generation) == (REPLACE, "n3", 2)


def test_of_what_holds_a_port_each_member_takes_one() -> None:
    ports = (StackPublished(Port(80, "tcp", 8080)),)
    plan = changes(stack(*(web(it, ports=ports) for it in range(1, 5))))
    assert sorted(it.member for it in plan.values() if it.action == CREATE) == ["n1", "n2", "n3"]
    assert plan["web-4"].action == WAIT


def test_instances_of_a_silent_member_start_elsewhere_under_a_new_generation() -> None:
    plan = changes(stack(web(1), web(2)), there(web(1), "n1"), there(web(2), "n2", ABSENT, 4), members=silent("n2"))
    assert plan["web-1"].action == KEEP
    moved = plan["web-2"]
    assert (moved.action, moved.member, moved.generation, moved.lost, moved.old) == (MOVE, "n3", 5, "n2", ())


def test_a_member_that_only_its_cluster_does_not_hear_is_waited_for() -> None:
    members = (MEMBERS[0], MEMBERS[1]._replace(state=UNSURE), MEMBERS[2])
    assert changes(stack(web(1)), there(web(1), "n2", ABSENT), members=members)["web-1"].action == WAIT


def test_once_it_runs_elsewhere_the_silent_one_is_left_alone_and_removed_when_it_is_back() -> None:
    new = there(web(1), "n1", generation=2)
    plan = changes(stack(web(1)), there(web(1), "n2", ABSENT), new, members=silent("n2"))
    assert plan["web-1"].action == KEEP
    for state in (RUNNING, STOPPED):
        stale = there(web(1), "n2", state)
        back = changes(stack(web(1)), stale, new)["web-1"]
        assert (back.action, back.kept, back.old) == (UPDATE, new, (stale,))


def test_what_has_a_volume_waits_for_its_member() -> None:
    spec = web(1, mounts=(MountSpec("volume", "data", "/data"),))
    desired = stack(spec, volumes=("data",))
    observed = Observed((there(spec, "n2", ABSENT),), volumes=("data",), members=silent("n2"), places=(("data", "n2"),))
    (change,) = [it for it in make_plan(desired, observed).changes if it.name == "web-1"]
    assert (change.action, change.lost) == (WAIT, "n2")
    assert not make_plan(desired, observed).work


def test_what_has_a_volume_is_made_where_that_is() -> None:
    spec = web(1, mounts=(MountSpec("volume", "data", "/data"),))
    observed = Observed(volumes=("data",), members=MEMBERS, places=(("data", "n3"),))
    (change,) = make_plan(stack(spec, volumes=("data",)), observed).of("instance", CREATE)
    assert change.member == "n3"


@given(st.permutations(["db", "web", "api"]), st.sampled_from(["", "n2"]))
def test_who_mounts_a_volume_is_on_its_member_also_who_only_reads_it(names: list[str], home: str) -> None:
    mount = MountSpec("volume", "data", "/data")
    readers = {"db": mount, "web": mount._replace(read_only=True), "api": mount._replace(read_only=True)}
    desired = stack(*(web(1, container=it, mounts=(readers[it],)) for it in names), volumes=("data",))
    places = (("data", home),) if home else ()
    plan = make_plan(desired, Observed(volumes=("data",) if home else (), members=MEMBERS, places=places))
    members = {it.member for it in plan.of("instance", CREATE)}
    assert len(members) == 1
    assert not home or members == {home}


def test_a_reader_that_is_elsewhere_moves_to_its_volume() -> None:
    spec = web(1, mounts=(MountSpec("volume", "data", "/data", read_only=True),))
    observed = Observed((there(spec, "n2"),), volumes=("data",), members=MEMBERS, places=(("data", "n1"),))
    (change,) = make_plan(stack(spec, volumes=("data",)), observed).of("instance", MOVE)
    assert change.member == "n1"


def test_a_member_that_is_emptied_gives_its_instances_away() -> None:
    members = (*MEMBERS[:2], MEMBERS[2]._replace(state=LEAVING))
    ports = (StackPublished(Port(80, "tcp", 8080)),)
    kept, pinned = web(1), web(2, container="lb", ports=ports, placement=Placement("", ("n3",)))
    volume = web(3, container="db", mounts=(MountSpec("volume", "data", "/data"),))
    instances = tuple(there(it, "n3") for it in (kept, pinned, volume))
    observed = Observed(instances, volumes=("data",), members=members, places=(("data", "n3"),))
    plan = {it.name: it for it in make_plan(stack(kept, pinned, volume), observed).changes}
    assert (plan["web-1"].action, plan["web-1"].member) == (MOVE, "n1")
    assert plan["lb-2"].action == REMOVE
    assert plan["db-3"].action == KEEP
    stopped = observed._replace(instances=(there(volume, "n3", STOPPED),))
    assert make_plan(stack(volume), stopped).changes[-1].action == WAIT


def test_what_is_absent_is_not_restarted() -> None:
    observed = Observed((there(web(1), "n2", ABSENT), there(web(1), "n1", generation=2)), members=silent("n2"))
    assert [it.kept for it in restart_plan(stack(web(1)), observed, ["web-1"]).changes] == [observed.instances[1]]


def test_what_is_not_wanted_any_more_is_not_removed_from_a_silent_member() -> None:
    assert not changes(stack(web(1)), there(web(1), "n1"), there(web(2), "n2", ABSENT), members=silent("n2")).get(
        "web-2"
    )
