"""The lock over the members of a cluster, on a real LXD: one at a time, also where a holder was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from boxwright.engines.deploy.lxdlease import Lease
from boxwright.engines.lxdclient.address import find_endpoint
from boxwright.engines.lxdclient.client import LxdClient
from boxwright.errors import BoxwrightError

pytestmark = [pytest.mark.integration, pytest.mark.engine("lxd")]

HOLDER = """
import os, sys, time
from boxwright.engines.deploy.lxdlease import Lease
from boxwright.engines.lxdclient.address import find_endpoint
from boxwright.engines.lxdclient.client import LxdClient
with Lease(LxdClient(find_endpoint("", os.environ)), sys.argv[1]).held(0):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def client() -> Iterator[LxdClient]:
    with LxdClient(find_endpoint("", os.environ)) as found:
        yield found


@pytest.fixture
def stack(client: LxdClient) -> Iterator[str]:
    name = f"lease{os.getpid()}"
    yield name
    Lease(client, name).remove()


def names(client: LxdClient, stack: str) -> list[str]:
    found = [it["name"] for it in client.get("/profiles", recursion="1")]
    return [it for it in found if it.startswith(f"boxwright-lock-{stack}.")]


def test_of_many_one_has_it_at_a_time(client: LxdClient, stack: str) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        with Lease(client, stack).held(60):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.05)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5
    assert names(client, stack) == [f"boxwright-lock-{stack}.5"], "the numbers count up, and one is kept"


@pytest.mark.long
def test_who_is_silent_loses_it_and_who_is_not_keeps_it(client: LxdClient, stack: str) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, stack], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    lease = Lease(client, stack, seconds=4)
    with pytest.raises(BoxwrightError) as refused, lease.held(6):
        pass
    assert refused.value.code == "deploy.busy"
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with lease.held(10):
        assert names(client, stack) == [f"boxwright-lock-{stack}.2"]
