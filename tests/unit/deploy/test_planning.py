"""Plans, and what becomes of an engine when they are applied, killed anywhere, and applied again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwright.deploy import health
from boxwright.deploy.applying import Limits, Progress, apply_plan
from boxwright.deploy.planning import make_plan, start_order
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import (
    RUNNING,
    Backend,
    ContainerSpec,
    Desired,
    InstanceSpec,
    Member,
    MountSpec,
    NetworkSpec,
    Observed,
    VolumeSpec,
    spec_from_text,
    spec_hash,
    spec_text,
    with_secrets,
)
from boxwright.model.image import Port
from boxwright.model.stack import Check, Placement, StackPublished, Update
from tests.unit.deploy.memory import KilledError, MemoryEngine

ROLLING = Update()
NAMES = ("db", "web", "cache", "jobs")
WEB, API = Backend("web", 8080, 80), Backend("api", 8081, 80)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_SETTLE", 0.0)


class Nothing:
    """No secrets, no files."""

    def content(self, reference: str) -> bytes:
        return reference.encode()

    def secret_program(self) -> bytes:
        return b""


def desired(
    shape: Sequence[tuple[str, int, str, bool]], update: Update = ROLLING, *, internal: bool = False
) -> Desired:
    """Containers as (name, replicas, image, whether it has a volume); each waits for the one before it."""
    containers: list[ContainerSpec] = []
    volumes: list[VolumeSpec] = []
    for name, replicas, image, has_volume in shape:
        instances: list[InstanceSpec] = []
        for number in range(1, replicas + 1):
            mounts: tuple[MountSpec, ...] = ()
            if has_volume:
                volumes.append(VolumeSpec(f"{name}-{number}"))
                mounts = (MountSpec("volume", f"{name}-{number}", "/data"),)
            spec = InstanceSpec(name, number, image, name, networks=("default",), aliases=(name,), mounts=mounts)
            instances.append(spec)
        after = ((containers[-1].name, "healthy"),) if containers else ()
        containers.append(ContainerSpec(name, tuple(instances), after, update))
    return Desired("shop", tuple(containers), (NetworkSpec("default", internal=internal),), tuple(volumes))


def deploy(engine: MemoryEngine, wanted: Desired, *, verify: bool = False) -> list[Progress]:
    told: list[Progress] = []
    observed = engine.observe(wanted.stack)
    plan = make_plan(wanted, observed)
    apply_plan(engine, wanted, observed, plan, Nothing(), told.append, Limits(4, verify))
    return told


def settled(engine: MemoryEngine, wanted: Desired) -> None:
    """What is there is what is wanted, and nothing else."""
    found = {it.logical: it for it in engine.observe(wanted.stack).instances}
    assert len(found) == len(engine.instances)
    assert {name: it.hash for name, it in found.items()} == {it.logical: spec_hash(it) for it in wanted.instances}
    assert all(it.state == RUNNING for it in found.values())
    assert not make_plan(wanted, engine.observe(wanted.stack)).work
    for logical, instance in found.items():
        assert f"{instance.addresses[0][1]} " in engine.names
        assert f" {logical}" in engine.names
    assert engine.names.count("\n") == 2 + len(found)


shapes = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(0, 3), st.sampled_from(["one", "two"]), st.booleans()),
    min_size=1,
    max_size=3,
    unique_by=lambda it: it[0],
)
updates = st.builds(
    Update, st.sampled_from(["rolling", "recreate"]), st.integers(1, 2), st.integers(0, 1), st.just(0.0)
)


@given(shapes, shapes, updates, st.booleans())
def test_after_a_plan_is_applied_nothing_is_left_to_do(
    first: list[tuple[str, int, str, bool]],
    second: list[tuple[str, int, str, bool]],
    update: Update,
    beside: bool,  # noqa: FBT001
) -> None:
    engine = MemoryEngine(makes_beside=beside)
    for shape in (first, second):
        deploy(engine, desired(shape, update))
        settled(engine, desired(shape, update))
    calls = engine.calls
    deploy(engine, desired(second, update))
    assert engine.calls == calls


@given(shapes, shapes, updates, st.integers(0, 40), st.integers(0, 40), st.booleans(), st.booleans())
def test_whatever_kills_it_the_next_run_goes_on(
    first: list[tuple[str, int, str, bool]],
    second: list[tuple[str, int, str, bool]],
    update: Update,
    killed_at: int,
    again: int,
    beside: bool,  # noqa: FBT001
    internal: bool,  # noqa: FBT001
) -> None:
    engine = MemoryEngine(makes_beside=beside)
    wanted = desired(second, update, internal=internal)
    deploy(engine, desired(first, update))
    for calls in (killed_at, again):
        engine.killed_at = engine.calls + calls
        with suppress(KilledError):
            deploy(engine, wanted)
        engine.killed_at = -1
    deploy(engine, wanted, verify=True)
    if engine.names:
        engine.publish_names("shop", engine.names)
    settled(engine, wanted)
    assert engine.internal == ({"default"} if internal else set())


@given(shapes, shapes)
def test_what_does_not_become_well_leaves_what_ran(
    first: list[tuple[str, int, str, bool]], second: list[tuple[str, int, str, bool]]
) -> None:
    first = [(name, replicas, "good", volume) for name, replicas, _, volume in first]
    second = [(name, replicas, "bad", volume) for name, replicas, _, volume in second]
    engine = MemoryEngine()
    deploy(engine, desired(first))
    before = {name for name, (_, state) in engine.instances.items() if state == RUNNING}
    engine.unwell = {"bad"}
    wanted = desired(second)
    if any(replicas for _, replicas, _, _ in second):
        with pytest.raises(BoxwrightError):
            deploy(engine, wanted)
        assert {name for name, (_, state) in engine.instances.items() if state == RUNNING} == before
        assert not [name for name, (new, _) in engine.instances.items() if new.spec.image == "bad"]
    deploy(engine, desired(first))
    settled(engine, desired(first))


def test_a_stack_that_is_made_is_told_its_names_once() -> None:
    engine = MemoryEngine()
    wanted = desired([(name, 1, "one", False) for name in NAMES])
    deploy(engine, wanted)
    assert engine.log.count("names") == 1
    settled(engine, wanted)
    assert {new.hosts for new, _ in engine.instances.values()} == {engine.names}


def test_names_lead_to_replicas_when_they_are_well() -> None:
    engine = MemoryEngine()
    deploy(engine, desired([("web", 3, "one", False)]))
    assert "web" not in engine.instances["shop-web-1-g1"][0].hosts
    assert engine.names.count(" web-") == 3


def test_no_engine_is_told_a_secret() -> None:
    engine = MemoryEngine()
    health_check = Check("command", command=("ask", "it"))
    spec = InstanceSpec("web", 1, "one", "web", ("serve",), (("DB_PASSWORD", "other"),), health=health_check)
    spec = spec._replace(secret_env=(("DB_PASSWORD", "db"),))
    deploy(engine, Desired("shop", (ContainerSpec("web", (spec,)),)))
    ((new, _),) = engine.instances.values()
    assert new.env == ()
    assert new.spec.argv == ("/.boxwright-secrets", "/run/secrets", "DB_PASSWORD", "--", "serve")
    assert {path: data for path, data, _ in new.files}["/run/secrets/DB_PASSWORD"] == b"secret:db"
    assert "secret:db" not in str(new._replace(files=()))
    assert engine.executed == [("/.boxwright-secrets", "/run/secrets", "DB_PASSWORD", "--", "ask", "it")]
    assert with_secrets(spec, ("/sbin/init",)) == ("/sbin/init",)


def test_a_rolling_update_takes_one_after_the_other() -> None:
    engine = MemoryEngine()
    deploy(engine, desired([("web", 3, "one", False)]))
    engine.log.clear()
    deploy(engine, desired([("web", 3, "two", False)]))
    steps = [step for step in engine.log if "names" not in step]
    assert steps == [
        step
        for number in (1, 2, 3)
        for step in (
            f"create shop-web-{number}-g2",
            f"start shop-web-{number}-g2",
            f"stop shop-web-{number}-g1",
            f"delete shop-web-{number}-g1",
        )
    ]


def test_what_has_a_volume_is_stopped_first_and_started_again_where_the_new_one_fails() -> None:
    engine = MemoryEngine()
    deploy(engine, desired([("db", 1, "one", True)]))
    engine.unwell = {"two"}
    engine.log.clear()
    with pytest.raises(BoxwrightError):
        deploy(engine, desired([("db", 1, "two", True)]))
    steps = [step for step in engine.log if "names" not in step]
    assert steps == [
        "stop shop-db-1-g1",
        "create shop-db-1-g2",
        "start shop-db-1-g2",
        "delete shop-db-1-g2",
        "start shop-db-1-g1",
    ]


def test_a_port_is_taken_over_from_what_is_to_go() -> None:
    def one(container: str) -> Desired:
        spec = InstanceSpec(container, 1, "one", container, ports=(StackPublished(Port(80, "tcp", 8080)),))
        return Desired("shop", (ContainerSpec(container, (spec,)),))

    engine = MemoryEngine()
    deploy(engine, one("lb"))
    engine.log.clear()
    deploy(engine, one("web"))
    steps = [step for step in engine.log if "names" not in step]
    assert steps == ["stop shop-lb-1-g1", "create shop-web-1-g1", "start shop-web-1-g1", *steps[3:]]
    assert steps[3:] == ["stop shop-lb-1-g1", "delete shop-lb-1-g1"]
    engine.unwell = {"one"}
    engine.log.clear()
    with pytest.raises(BoxwrightError):
        deploy(engine, one("lb"))
    assert [step for step in engine.log if "names" not in step][-1] == "start shop-web-1-g1"


def test_ports_go_from_one_to_another() -> None:
    def stack(ports: dict[str, int]) -> Desired:
        specs = [
            InstanceSpec(name, 1, "one", name, networks=("default",), ports=(StackPublished(Port(80, "tcp", port)),))
            for name, port in ports.items()
        ]
        return Desired("shop", tuple(ContainerSpec(it.container, (it,)) for it in specs), (NetworkSpec("default"),))

    engine = MemoryEngine()
    for ports in ({"a": 81, "b": 82, "c": 83}, {"a": 82, "b": 81, "c": 83}, {"a": 83, "b": 82, "c": 81}, {"a": 81}):
        deploy(engine, stack(ports))
        settled(engine, stack(ports))


def test_a_canary_that_fails_leaves_the_others_alone() -> None:
    engine = MemoryEngine()
    deploy(engine, desired([("web", 3, "one", False)]))
    engine.unwell = {"two"}
    engine.log.clear()
    with pytest.raises(BoxwrightError):
        deploy(engine, desired([("web", 3, "two", False)], Update("rolling", 2, 1, 0.1)))
    assert [step for step in engine.log if step.startswith("create")] == ["create shop-web-1-g2"]


def test_reasons_name_what_changed() -> None:
    engine = MemoryEngine()
    before = InstanceSpec("web", 1, "sha256:aaaa", "web", env=(("A", "1"), ("B", "2")), networks=("default",))
    after = before._replace(env=(("A", "1"), ("B", "3")), image="sha256:bbbb", files=())

    def one(spec: InstanceSpec) -> Desired:
        return Desired("shop", (ContainerSpec("web", (spec,)),), (NetworkSpec("default"),))

    deploy(engine, one(before))
    (change,) = make_plan(one(after), engine.observe("shop")).work
    assert change.reason == "the image is bbbb, not aaaa; environment: B"


def test_a_damaged_network_is_made_anew_with_its_instances() -> None:
    engine = MemoryEngine()
    wanted = desired([("web", 2, "one", False)])
    deploy(engine, wanted)
    observed = engine.observe("shop")
    broken = observed._replace(networks=tuple(it._replace(whole=False) for it in observed.networks))
    plan = make_plan(wanted, broken)
    assert [change.action for change in plan.work] == ["replace"] * 3
    apply_plan(engine, wanted, broken, plan, Nothing(), lambda _: None)
    settled(engine, wanted)


def test_an_instance_moves_to_a_member_that_it_may_be_on() -> None:
    spec = InstanceSpec("web", 1, "one", "web", placement=Placement("", ("n2",)))
    engine = MemoryEngine()
    wanted = Desired("shop", (ContainerSpec("web", (spec,)),))
    deploy(engine, wanted)
    observed = engine.observe("shop")
    there = Observed(tuple(it._replace(member="n1") for it in observed.instances), members=(Member("n1"), Member("n2")))
    assert [change.action for change in make_plan(wanted, there).work] == ["move"]


@given(st.permutations(NAMES))
def test_containers_come_after_those_that_they_wait_for(names: list[str]) -> None:
    containers = [
        ContainerSpec(name, (), tuple((it, "healthy") for it in NAMES[: NAMES.index(name)])) for name in names
    ]
    assert [it.name for it in start_order(containers)] == list(NAMES)


texts = st.text(max_size=5)
TIMES = ("interval", "timeout", "start_period")
specs = st.builds(
    InstanceSpec,
    container=st.sampled_from(NAMES),
    number=st.integers(1, 9),
    image=texts,
    image_name=texts,
    argv=st.lists(texts, max_size=3).map(tuple),
    env=st.lists(st.tuples(texts, texts), max_size=2).map(tuple),
    ports=st.lists(st.builds(StackPublished, st.builds(Port, st.integers(1, 9))), max_size=2).map(tuple),
    mounts=st.lists(st.builds(MountSpec, texts, texts, texts), max_size=2).map(tuple),
    health=st.builds(
        Check, st.sampled_from(["http", "none"]), texts, st.integers(0, 9), **dict.fromkeys(TIMES, st.floats(0, 100))
    ),
    stop_seconds=st.floats(0, 100),
    placement=st.builds(Placement, texts),
)


@given(specs, specs)
def test_specifications_are_told_apart_and_read_back(one: InstanceSpec, other: InstanceSpec) -> None:
    assert spec_from_text(spec_text(one)) == one
    same = one._replace(image_name="") == other._replace(image_name="")
    assert (spec_hash(one) == spec_hash(other)) == same


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ((WEB,), (WEB,), ""),
        ((WEB,), (WEB._replace(weights=(("web-1", 5),), drain=1.0),), "balancing: weights, drain of web"),
        ((WEB,), (WEB._replace(certificate="sha256:2"),), "balancing: certificate of web"),
        ((WEB,), (WEB, API), "balancing: api too"),
        ((WEB, API), (API._replace(port=81),), "balancing: port of api, web no longer"),
    ],
)
def test_a_balancer_that_stays_is_told_what_changed(
    before: tuple[Backend, ...], after: tuple[Backend, ...], reason: str
) -> None:
    engine = MemoryEngine()
    wanted = desired([("web", 2, "one", False), ("lb", 1, "haproxy", False)])
    first = wanted._replace(backends=before)
    apply_plan(engine, first, engine.observe("shop"), make_plan(first, engine.observe("shop")), Nothing(), _ignore)
    second = wanted._replace(backends=after)
    plan = make_plan(second, engine.observe("shop"), told=first)
    assert [(it.action, it.name, it.reason) for it in plan.work] == [("update", "lb-1", reason)] * bool(reason)
    log = len(engine.log)
    apply_plan(engine, second, engine.observe("shop"), plan, Nothing(), _ignore)
    assert ("put shop-lb-1-g1" in engine.log[log:]) == bool(reason)


def _ignore(_: Progress) -> None:
    pass
