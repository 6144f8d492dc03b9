"""What engines of one host refuse, before anything changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from boxwright.app.stacks.places import one_host_lacks
from boxwright.engines import nftrules
from boxwright.engines.lacking import restart_lacks
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import Backend, ContainerSpec, Desired, InstanceSpec, NetworkSpec, VolumeSpec


def code_of(work: Callable[[], object]) -> str:
    with pytest.raises(BoxwrightError) as raised:
        work()
    return raised.value.code


def test_an_address_can_not_move() -> None:
    desired = Desired("shop", (), backends=(Backend("web", 80, 80, address="10.1.1.200/24"),))
    assert code_of(lambda: one_host_lacks("LXC", desired)) == "deploy.engine-lacks"


def test_rules_need_nft(monkeypatch: pytest.MonkeyPatch) -> None:
    desired = Desired("shop", (), networks=(NetworkSpec("back", deny=("*",)),))
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(nftrules, "_PATH", "/nonexistent")
    assert code_of(lambda: one_host_lacks("LXC", desired)) == "deploy.engine-lacks"
    assert one_host_lacks("LXC", desired._replace(networks=(NetworkSpec("back"),))) == ()


def test_pools_and_restarts_are_named() -> None:
    spec = InstanceSpec("web", 1, "one", "web", restart="always", pool="fast")
    volumes = (VolumeSpec("data", "fast"), VolumeSpec("logs"))
    desired = Desired("shop", (ContainerSpec("web", (spec, spec._replace(number=2, restart="no", pool=""))),))
    said = one_host_lacks("LXC", desired._replace(volumes=volumes))
    assert [it for it in said if "pools" in it] == [
        "web-1: LXC has no storage pools",
        "volume data: LXC has no storage pools",
    ]
    assert [it.partition(":")[0] for it in restart_lacks(desired)] == ["web-1"]
    assert restart_lacks(desired)[0] in said
