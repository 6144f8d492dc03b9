"""A deployment that fails, after one that was interrupted too: what runs then, what is remembered, what is said."""

from __future__ import annotations

import copy

import pytest

from boxwright.app.stacks.contents import StackContents
from boxwright.app.stacks.deployment import Prepared, carry_out, prepare_deployment, rolled_back
from boxwright.deploy.applying import DEPLOYING
from boxwright.deploy.history import Release, read_events
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import (
    RUNNING,
    ContainerSpec,
    Desired,
    InstanceSpec,
    MountSpec,
    NetworkSpec,
    VolumeSpec,
)
from boxwright.store.store import Store
from tests.unit.deploy.memory import KilledError, MemoryEngine

DATA = (MountSpec("volume", "data", "/data"),)


def stack(image: str, container: str = "web") -> Desired:
    spec = InstanceSpec(container, 1, image, image, mounts=DATA, networks=("default",))
    return Desired("shop", (ContainerSpec(container, (spec,)),), (NetworkSpec("default"),), (VolumeSpec("data"),))


def prepared(engine: MemoryEngine, desired: Desired) -> Prepared:
    return prepare_deployment(engine, desired, StackContents(engine, "shop", {}), ())


def deploy(engine: MemoryEngine, desired: Desired, store: Store) -> Release | None:
    return carry_out(engine, prepared(engine, desired), store, "deploy", lambda _: None)


def running(engine: MemoryEngine) -> dict[str, str]:
    return {name: new.spec.image for name, (new, state) in engine.instances.items() if state == RUNNING}


def test_what_fails_after_it_was_killed_anywhere_goes_back_to_the_last_release(store: Store) -> None:
    first = MemoryEngine()
    deploy(first, stack("good"), store)
    first.unwell = {"bad"}
    for killed_at in range(1, 40):
        engine = copy_of(first)
        engine.calls, engine.killed_at = 0, killed_at
        with pytest.raises((KilledError, BoxwrightError)) as ended:
            deploy(engine, stack("bad"), store)
        if isinstance(ended.value, BoxwrightError):
            break
        engine.killed_at = -1
        with pytest.raises(BoxwrightError, match="can't be started"):
            deploy(engine, stack("bad"), store)
        assert list(running(engine).values()) == ["good"], killed_at
        assert DEPLOYING not in engine.documents
    assert killed_at > 5


def test_the_first_one_that_was_killed_and_fails_leaves_nothing_but_volumes(store: Store) -> None:
    engine = MemoryEngine()
    engine.unwell, engine.killed_at = {"bad"}, 6
    with pytest.raises(KilledError):
        deploy(engine, stack("bad"), store)
    engine.killed_at = -1
    with pytest.raises(BoxwrightError) as failed:
        deploy(engine, stack("bad"), store)
    assert "nothing of it is left" in (failed.value.hint or "")
    assert (engine.instances, engine.networks, engine.volumes) == ({}, {}, {"data"})


def test_after_an_interruption_the_last_release_is_gone_back_to(store: Store) -> None:
    engine = MemoryEngine()
    deploy(engine, stack("good"), store)
    engine.calls, engine.killed_at = 0, 6
    with pytest.raises(KilledError):
        deploy(engine, stack("other"), store)
    engine.killed_at = -1
    assert rolled_back(engine, "shop", None).number == 1
    carry_out(engine, prepared(engine, rolled_back(engine, "shop", None).desired), store, "rollback", lambda _: None)
    assert list(running(engine).values()) == ["good"]


def test_where_going_back_fails_too_the_first_error_is_told_and_both_are_events(store: Store) -> None:
    engine = MemoryEngine()
    deploy(engine, stack("good"), store)
    engine.unwell = {"bad", "good"}

    with pytest.raises(BoxwrightError) as failed:
        deploy(engine, stack("bad"), store)
    assert "g2 can't be started" in failed.value.message
    assert "going back failed too" in (failed.value.hint or "")
    told = [it.text for it in read_events(engine, "shop") if it.what == "failed" and it.name == "shop"]
    assert len(told) == 2, told
    assert DEPLOYING in engine.documents
    engine.unwell = set()
    carry_out(engine, prepared(engine, rolled_back(engine, "shop", None).desired), store, "rollback", lambda _: None)
    assert list(running(engine).values()) == ["good"]


def test_a_renamed_container_starts_after_the_one_that_has_its_volume(store: Store) -> None:
    engine = MemoryEngine()  # which sees that two never have one volume
    deploy(engine, stack("one", "db"), store)
    deploy(engine, stack("one", "pg"), store)
    assert list(running(engine)) == ["shop-pg-1-g1"]
    engine.unwell = {"bad"}
    with pytest.raises(BoxwrightError):
        deploy(engine, stack("bad", "other"), store)
    assert list(running(engine)) == ["shop-pg-1-g1"]


def copy_of(engine: MemoryEngine) -> MemoryEngine:
    made = MemoryEngine()
    for name in ("instances", "networks", "volumes", "documents", "unwell"):
        setattr(made, name, copy.copy(getattr(engine, name)))
    return made
