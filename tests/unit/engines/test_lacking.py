"""What engines of one host refuse, before anything changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from boxwright.app.stacks.places import one_host_lacks
from boxwright.engines import nftrules
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import Backend, Desired, NetworkSpec


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
