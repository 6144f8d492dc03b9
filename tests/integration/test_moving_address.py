"""An address that moves between the load balancers of a stack."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.integration.conftest import until
from tests.integration.test_networks import RECIPE, START, Stack

pytestmark = [pytest.mark.integration, pytest.mark.engine("lxd"), pytest.mark.long]

SUBNET = "10.203.77"
ADDRESS = f"{SUBNET}.200"


@pytest.fixture
def lan() -> Iterator[str]:
    """A bridge of this machine's, on which it has an address."""
    name = f"lan{os.getpid()}"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    try:
        for words in (["addr", "add", f"{SUBNET}.1/24", "dev", name], ["link", "set", name, "up"]):
            subprocess.run(["ip", *words], check=True)
        yield name
    finally:
        subprocess.run(["ip", "link", "del", name], check=True)


@pytest.fixture
def stack(boxwright: Program, tmp_path: Path, busybox_base: Path) -> Iterator[Stack]:
    (tmp_path / "Recipe").write_text(RECIPE.format(base=busybox_base))
    (tmp_path / "start").write_text(START)
    (tmp_path / "start").chmod(0o755)
    made = Stack(boxwright, tmp_path, f"moving{os.getpid()}", "lxd")
    yield made
    made("destroy", "--yes", "--volumes", status=None)


def get() -> bool:
    try:
        with urllib.request.urlopen(f"http://{ADDRESS}:8000/index.html", timeout=2) as answer:
            return bool(answer.read() == b"page\n")
    except OSError:
        return False


def holder(stack: Stack) -> str:
    """The load balancer that has the address, as LXD shows it; the others have not."""
    found: list[str] = []
    for name in ("lb-1", "lb-2"):
        path = f"/1.0/instances/{stack.name}-{name}-g1/state?project=boxwright-{stack.name}"
        done = subprocess.run(["lxc", "query", path], capture_output=True, check=True, stdin=subprocess.DEVNULL)
        networks = json.loads(done.stdout)["network"] or {}
        found += [name for it in networks.get("lan0", {}).get("addresses", ()) if it["address"] == ADDRESS]
    assert len(found) < 2
    return "".join(found)


def test_an_address_moves(stack: Stack, lan: str) -> None:
    containers = (
        "  web: {build: ., replicas: 2, healthcheck: {http: /index.html, port: 80, interval: 200ms}}\n"
        "  other: {build: ., healthcheck: {port: 80}}\n"
    )
    more = (
        f"loadbalancer: {{web: {{listen: 8000, address: {ADDRESS}/24, interface: {lan}}}}}\n"
        "networks: {in: {allow: ['other -> web:81']}}\n"  # rules don't hinder it
    )
    stack.deploy(containers, more)
    until(get, 10)
    before = holder(stack)
    assert before in ("lb-1", "lb-2")

    # It dies.
    name = f"{stack.name}-{before}-g1"
    subprocess.run(
        ["lxc", "stop", "--force", name, "--project", f"boxwright-{stack.name}"], check=True, stdin=subprocess.DEVNULL
    )
    until(get, 5)
    other = holder(stack)
    assert other not in ("", before)

    # It comes back, and takes nothing away.
    assert f"start {before}" in stack("deploy").err
    time.sleep(3)
    assert holder(stack) == other
    assert get()
    assert stack.reached("other", "web:80", "web:81") == {"web:81"}

    # Who has it goes in good order: it is away for less than a second.
    failed: list[float] = []
    stopped = threading.Event()

    def ask() -> None:
        while not stopped.is_set():
            if not get():
                failed.append(time.monotonic())
            time.sleep(0.02)

    asking = threading.Thread(target=ask)
    asking.start()
    stack("restart", "/lb")
    stopped.set()
    asking.join()
    assert get()
    assert not failed or max(failed) - min(failed) < 20
    stack.deploy("  web: {build: .}\n")
    assert not get()
