"""How long a holder of a cluster's lock may be silent, where the cluster was silent too."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from boxwright.engines.deploy.lxdlease import Lease
from boxwright.engines.lxdclient.client import LxdClient
from boxwright.engines.lxdclient.failures import LxdError
from boxwright.errors import BoxwrightError

HELD = [{"name": "boxwright-lock-shop.3", "config": {"user.boxwright.beat": "one"}}]


class Profiles:
    """What a cluster answers: its profiles, or nothing while it has no quorum."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = list(HELD)
        self.silent = False

    def within(self, project: str) -> Profiles:
        del project
        return self

    def get(self, path: str, **_: str) -> list[dict[str, Any]]:
        if self.silent:
            raise LxdError("lxd.timeout", f"{path}: no answer")
        return list(self.found)

    def run(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        name = path.rpartition("/")[2]
        if method != "POST":
            self.found = [it for it in self.found if it["name"] != name]
        if body is not None:
            self.found.append({"name": name, **body})


def is_taken(lease: Lease) -> bool:
    try:
        with lease.held(0):
            pass
    except BoxwrightError:
        return False
    return True


@pytest.mark.parametrize("outage", [False, True])
def test_time_in_which_nobody_could_write_is_not_the_holders_silence(*, outage: bool) -> None:
    profiles = Profiles()
    lease = Lease(cast("LxdClient", profiles), "shop", seconds=0.3)
    assert not is_taken(lease)
    time.sleep(0.2)
    if outage:
        profiles.silent = True
        assert not is_taken(lease)
        profiles.silent = False
    time.sleep(0.15)
    assert is_taken(lease) is not outage
    time.sleep(0.35)
    assert is_taken(lease)
