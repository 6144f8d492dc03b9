"""A stack that is removed: killed at any point nobody brings it back, and the next attempt goes on."""

from __future__ import annotations

import pytest

from boxwright.app.stacks.contents import StackContents
from boxwright.app.stacks.deployment import carry_out, prepare_deployment
from boxwright.app.stacks.destroying import destroy_stack, is_being_destroyed
from boxwright.app.stacks.finding import is_there
from boxwright.app.stacks.upkeep import Upkeep
from boxwright.app.stacks.watching import Watcher
from boxwright.deploy.applying import DEPLOYING
from boxwright.deploy.history import RELEASES
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import ContainerSpec, Desired, InstanceSpec, MountSpec, NetworkSpec, VolumeSpec
from boxwright.store.store import Store
from tests.unit.deploy.memory import KilledError, MemoryEngine

SPEC = InstanceSpec("web", 1, "one", "one", mounts=(MountSpec("volume", "data", "/data"),), networks=("default",))
OTHER = InstanceSpec("api", 1, "one", "one", networks=("default",))
STACK = Desired(
    "shop",
    (ContainerSpec("web", (SPEC,)), ContainerSpec("api", (OTHER,))),
    (NetworkSpec("default"),),
    (VolumeSpec("data", snapshot_every=1.0),),
)


def deploy(engine: MemoryEngine, store: Store) -> None:
    prepared = prepare_deployment(engine, STACK, StackContents(engine, "shop", {}), ())
    carry_out(engine, prepared, store, "deploy", lambda _: None)


def deployed(store: Store) -> MemoryEngine:
    engine = MemoryEngine()
    deploy(engine, store)
    engine.documents["secrets"] = b"{}"
    engine.calls = 0
    return engine


@pytest.mark.parametrize("volumes", [None, ()])
def test_killed_anywhere_nobody_brings_it_back_and_the_next_one_goes_on(
    store: Store, volumes: tuple[str, ...] | None
) -> None:
    for killed_at in range(1, 60):
        engine = deployed(store)
        engine.killed_at = killed_at
        try:
            destroy_stack(engine, "shop", volumes)
        except KilledError:
            engine.killed_at = -1
        else:
            break
        left = set(engine.instances)
        engine.log.clear()
        Watcher(engine, "shop", lambda _: None).look()
        Upkeep(engine, "shop", lambda _: None).look()
        if killed_at > 1:
            assert set(engine.instances) <= left, killed_at
            assert engine.log == [], killed_at
        destroy_stack(engine, "shop", volumes)
        assert (engine.instances, engine.networks) == ({}, {})
        assert engine.volumes == ({"data"} if volumes is not None else set())
        assert set(engine.documents) == ({"secrets"} if volumes is not None else set()), killed_at
    assert killed_at > 10


def test_what_fails_is_carried_on_and_deploying_makes_it_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = deployed(store)

    def refuse(stack: str, name: str) -> None:
        raise BoxwrightError("deploy.engine-failed", f"{name} of {stack} is busy")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "delete_network", refuse)
        with pytest.raises(BoxwrightError):
            destroy_stack(engine, "shop", None)
    assert is_being_destroyed(engine, "shop")
    assert is_there(engine, "shop")
    assert engine.volumes == {"data"}
    deploy(engine, store)
    assert len(engine.instances) == 2
    assert DEPLOYING not in engine.documents
    destroy_stack(engine, "shop", None)
    assert not is_there(engine, "shop")


def test_a_volume_that_nobody_was_asked_about_stays(store: Store) -> None:
    engine = deployed(store)
    engine.volumes.add("late")
    assert destroy_stack(engine, "shop", ("data",)) == ("late",)
    assert engine.volumes == {"late"}
    assert is_there(engine, "shop")
    assert "secrets" in engine.documents


def test_releases_that_can_not_be_read_are_removed_all_the_same(store: Store) -> None:
    engine = deployed(store)
    engine.documents[RELEASES] = b"?"
    destroy_stack(engine, "shop", None)
    assert not is_there(engine, "shop")
