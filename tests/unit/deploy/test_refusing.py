"""Networks and volumes that are there and are to be otherwise; what can't be is an error before anything changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwright.app.opening import open_store
from boxwright.app.stacks.contents import StackContents
from boxwright.app.stacks.deployment import Prepared, carry_out, check_prepared, prepare_deployment
from boxwright.deploy import health
from boxwright.deploy.history import RELEASES, releases_text, with_release
from boxwright.deploy.planning import MOVE, NETWORK, REPLACE, UPDATE, VOLUME, WAIT, make_plan
from boxwright.deploy.refusing import check_networks
from boxwright.engines.deploy.lxdnetworks import made_as
from boxwright.errors import BoxwrightError, DefinitionError
from boxwright.frontends.stack.read import read_stack
from boxwright.model.deployment import (
    OFFLINE,
    RUNNING,
    ContainerSpec,
    Desired,
    InstanceSpec,
    Member,
    MountSpec,
    Network,
    NetworkSpec,
    Observed,
    VolumeSpec,
)
from boxwright.model.volumes import VolumeCopy, VolumeState, size_text
from boxwright.store.store import Store
from tests.unit.deploy.memory import MemoryEngine
from tests.unit.deploy.test_planning import deploy, settled

GIB = 1 << 30
STACK = """\
name: shop
containers:
  web: {image: a, volume: {name: logs, target: /logs, size: 1GiB}}
networks:
  default: {subnet: 10.8.0.0/24}
volumes:
  data: {size: 5GiB, pool: fast}
"""


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_SETTLE", 0.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store({"BOXWRIGHT_HOME": str(tmp_path / "store")}) as found:
        yield found


def shop(*networks: NetworkSpec, volumes: tuple[VolumeSpec, ...] = ()) -> Desired:
    mounts = tuple(MountSpec("volume", it.name, f"/{it.name}") for it in volumes)
    names = tuple(it.name for it in networks)
    web = InstanceSpec("web", 1, "one", "web", networks=names, aliases=("web",), mounts=mounts)
    api = InstanceSpec("api", 1, "one", "api", networks=names[:1], aliases=("api",))
    return Desired("shop", (ContainerSpec("web", (web,)), ContainerSpec("api", (api,))), networks, volumes)


def prepared(engine: MemoryEngine, wanted: Desired, *, text: str = STACK) -> Prepared:
    stack = read_stack(text, "autopilot.yaml", lambda _, path: path)
    return check_prepared(prepare_deployment(engine, wanted, StackContents(engine, "shop", {}), ()), stack)


SUBNETS = ("10.8.0.0/24", "10.9.0.0/24", "10.9.1.0/24")
attributes = st.tuples(st.permutations(SUBNETS), st.lists(st.booleans(), min_size=2, max_size=2), st.booleans())


@given(st.lists(attributes, min_size=2, max_size=3))
def test_networks_become_what_they_are_to_be(all_of_it: list[tuple[list[str], list[bool], bool]]) -> None:
    """Also where two of them change their subnets with each other."""
    engine = MemoryEngine()
    for subnets, internal, named in all_of_it:
        names = zip(("front", "back"), subnets, internal, strict=False)
        specs = tuple(NetworkSpec(name, subnet if named else "", internal=it) for name, subnet, it in names)
        deploy(engine, shop(*specs))
        observed = engine.observe("shop")
        assert sorted(it.logical for it in observed.instances if it.state == RUNNING) == ["api-1", "web-1"]
        assert not make_plan(shop(*specs), observed).work
        assert engine.internal == {it.name for it in specs if it.internal}
        assert not named or engine.networks == {it.name: it.subnet for it in specs}


@pytest.mark.parametrize(
    ("spec", "found", "reason"),
    [
        (NetworkSpec("back", internal=True), Network("back", "10.1.0.0/24", internal=False), "leads out"),
        (NetworkSpec("back"), Network("back", "10.1.0.0/24", internal=True), "is internal"),
        (NetworkSpec("back"), Network("back", "10.1.0.0/24", across="host"), "bridge on each host"),
        (NetworkSpec("back", across="host"), Network("back", "10.1.0.0/24", across="hosts"), "one network over all"),
        (NetworkSpec("back", across="host"), Network("back", "10.1.0.0/24"), ""),
        (NetworkSpec("back", across="hosts", internal=True), Network("back", "10.1.0.0/24", internal=True), ""),
    ],
)
def test_what_the_engine_fixed_is_compared(spec: NetworkSpec, found: Network, reason: str) -> None:
    changes = make_plan(shop(spec), Observed(networks=(found,))).of(NETWORK, REPLACE)
    assert [reason in it.reason for it in changes] == [True] * bool(reason)


@pytest.mark.parametrize(
    ("kind", "config", "clustered", "internal", "across"),
    [
        ("bridge", {"ipv4.nat": "true"}, False, False, ""),
        ("bridge", {"ipv4.nat": "false", "ipv4.routing": "false"}, False, True, ""),
        ("bridge", {"ipv4.nat": "true"}, True, False, "host"),
        ("bridge", {"ipv4.nat": "true", "tunnel.vx.id": "7"}, True, False, "hosts"),
        ("ovn", {"ipv4.nat": "false"}, True, True, "hosts"),
    ],
)
def test_a_network_of_lxd_says_how_it_was_made(
    kind: str,
    config: dict[str, str],
    clustered: bool,  # noqa: FBT001
    internal: bool,  # noqa: FBT001
    across: str,
) -> None:
    config = {**config, "ipv4.address": "10.1.0.1/24", "user.dev.boxwright.network": "back"}
    found = made_as({"type": kind, "config": config}, clustered=clustered)
    assert found == Network("back", "10.1.0.0/24", True, internal, across)


@pytest.mark.parametrize("held", ["10.8.0.0/24", "10.8.0.128/25", "10.0.0.0/8"])
def test_a_subnet_that_is_taken_is_an_error_before_anything_is_removed(held: str) -> None:
    engine = MemoryEngine()
    deploy(engine, shop(NetworkSpec("default", "10.7.0.0/24")))
    engine.held = (held, "10.7.0.0/24")  # that of its own, which the machine has a route to
    calls = engine.calls
    with pytest.raises(DefinitionError) as caught:
        prepared(engine, shop(NetworkSpec("default", "10.8.0.0/24")))
    assert (caught.value.code, str(caught.value.where)) == ("deploy.subnet-taken", "autopilot.yaml:5:21")
    assert engine.calls == calls
    prepared(engine, shop(NetworkSpec("default", "10.7.0.0/24", internal=True)))


def test_a_subnet_of_a_network_that_goes_last_is_taken() -> None:
    engine = MemoryEngine()
    deploy(engine, shop(NetworkSpec("front", "10.8.0.0/24")))
    with pytest.raises(BoxwrightError) as caught:
        prepared(engine, shop(NetworkSpec("default", "10.8.0.0/24")))
    assert caught.value.code == "deploy.subnet-taken"


def test_a_network_is_not_replaced_while_a_member_is_silent() -> None:
    members = (Member("n1"), Member("n2", state=OFFLINE))
    observed = Observed(networks=(Network("back", "10.1.0.0/24", True, False, "hosts"),), members=members)
    wanted = shop(NetworkSpec("back", internal=True))
    assert not make_plan(wanted, observed).of(NETWORK, REPLACE), "watch goes on with everything else"
    with pytest.raises(BoxwrightError) as caught:
        check_networks(wanted, observed, make_plan(wanted, observed))
    assert caught.value.code == "deploy.member-away"
    both = observed._replace(members=members[:1])
    assert make_plan(wanted, both).of(NETWORK, REPLACE)
    check_networks(wanted, both, make_plan(wanted, both))


def test_after_a_change_that_fails_networks_are_as_they_were(store: Store) -> None:
    class Refusing(MemoryEngine):
        def create_network(self, stack: str, spec: NetworkSpec) -> None:
            if spec.subnet == "10.9.0.0/24":
                raise BoxwrightError("deploy.engine-failed", "it is in use")
            super().create_network(stack, spec)

    engine = Refusing()
    before = shop(NetworkSpec("default", "10.8.0.0/24", internal=True))
    deploy(engine, before)
    engine.documents[RELEASES] = releases_text(with_release((), before, "deploy", 1))
    plan = prepared(engine, shop(NetworkSpec("default", "10.9.0.0/24")))
    with pytest.raises(BoxwrightError) as caught:
        carry_out(engine, plan, store, "deploy", lambda _: None)
    assert (caught.value.code, caught.value.hint) == ("deploy.engine-failed", "what ran before runs again")
    assert (engine.networks, engine.internal) == ({"default": "10.8.0.0/24"}, {"default"})
    assert sorted(it.logical for it in engine.observe("shop").instances if it.state == RUNNING) == ["api-1", "web-1"]
    assert not make_plan(before, engine.observe("shop")).work


def data(size: int, pool: str = "") -> Desired:
    return shop(NetworkSpec("default", "10.8.0.0/24"), volumes=(VolumeSpec("data", pool, size),))


@pytest.mark.parametrize(("now", "wanted", "grows"), [(5, 8, True), (5, 5, False), (0, 5, True), (5, 0, False)])
def test_a_volume_grows_before_anything_else(now: int, wanted: int, grows: bool) -> None:  # noqa: FBT001
    engine = MemoryEngine()
    deploy(engine, data(now * GIB))
    engine.states["data"] = VolumeState("data", size=now * GIB, pools=("local", "default"))
    change = data(wanted * GIB)._replace(networks=(NetworkSpec("default", "10.9.0.0/24"),))
    plan = prepared(engine, change).plan
    assert [it.name for it in plan.of(VOLUME, UPDATE)] == ["data"] * grows
    log = len(engine.log)
    deploy(engine, change)
    assert (engine.log[log] == "grow volume data") == grows
    settled(engine, change)


@pytest.mark.parametrize(
    ("size", "pool", "error"),
    [(4, "", True), (5, "fast", True), (5, "local", False), (5, "default", False), (0, "", False), (6, "local", False)],
)
def test_what_a_volume_can_not_become_is_an_error(size: int, pool: str, error: bool) -> None:  # noqa: FBT001
    engine = MemoryEngine()
    deploy(engine, data(5 * GIB))
    engine.states["data"] = VolumeState("data", size=5 * GIB, pools=("local", "default"))
    if not error:
        prepared(engine, data(size * GIB, pool))
        return
    with pytest.raises(DefinitionError) as caught:
        prepared(engine, data(size * GIB, pool))
    assert (caught.value.code, str(caught.value.where)) == ("deploy.volume-fixed", "autopilot.yaml:7:9")
    # Who goes back to a release keeps what the volume has become.
    back = prepare_deployment(engine, data(size * GIB, pool), StackContents(engine, "shop", {}), ())
    assert not check_prepared(back).plan.of(VOLUME, UPDATE)


def test_a_volume_on_a_silent_member_grows_later() -> None:
    members = (Member("n1"), Member("n2", state=OFFLINE))
    states = (VolumeState("data", "n2", size=GIB),)
    observed = Observed(volumes=("data",), members=members, states=states)
    assert [it.action for it in make_plan(data(2 * GIB), observed).changes if it.kind == VOLUME] == [WAIT]


def test_what_reads_a_volume_that_is_taken_over_comes_after_it() -> None:
    mount = MountSpec("volume", "data", "/data")
    db = InstanceSpec("db", 1, "one", "db", mounts=(mount,))
    reader = InstanceSpec("web", 1, "one", "web", mounts=(mount._replace(read_only=True),))
    containers = (ContainerSpec("db", (db,), failover="replica"), ContainerSpec("web", (reader,)))
    wanted = Desired("shop", containers, volumes=(VolumeSpec("data", replicate=2),))
    members = (Member("n1", state=OFFLINE), Member("n2"), Member("n3"))
    state = VolumeState("data", "n1", copies=(VolumeCopy("n3", 5.0),))
    observed = Observed(volumes=("data",), members=members, places=(("data", "n1"),), states=(state,))
    for order in (containers, containers[::-1]):
        plan = make_plan(wanted._replace(containers=order), observed, given_up={"n1"}).changes
        found = {it.name: (it.action, it.member) for it in plan if it.kind == "instance"}
        assert found == {"db-1": (MOVE, "n3"), "web-1": (WAIT, "")}
    after = observed._replace(places=(("data", "n3"),), states=(state._replace(member="n3"),))
    assert {it.member for it in make_plan(wanted, after).changes if it.kind == "instance"} == {"n3"}


@pytest.mark.parametrize(
    ("size", "text"), [(0, "without a limit"), (5 * GIB, "5GiB"), (1536 << 20, "1536MiB"), (1000, "1000B")]
)
def test_sizes_are_said_as_stacks_write_them(size: int, text: str) -> None:
    assert size_text(size) == text
