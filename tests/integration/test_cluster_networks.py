"""Networks over the members of a cluster: rules, a resolver, an address that moves when a member dies."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import ROOT, Program
from tests.integration.cluster import SUBNET, Cluster, Member, new_cluster, remove_leftovers, status
from tests.integration.conftest import until
from tests.integration.test_networks import CHECK, RECIPE, START, Stack

pytestmark = [pytest.mark.integration, pytest.mark.engine("lxd"), pytest.mark.long]

ADDRESS = f"{SUBNET}.200"


@pytest.fixture
def cluster(boxwright: Program) -> Iterator[Cluster]:
    for image in ("haproxy", "unbound"):  # the members' namespaces lead nowhere
        boxwright("build", ROOT / f"images/{image}", "-q", "-t", f"boxwright/{image}", timeout=600)
    remove_leftovers()
    made = new_cluster()
    try:
        made.up(boxwright)
        yield made
    finally:
        made.down()


def answers(cluster: Cluster) -> bool:
    """Whether a machine beside the members gets the page at the address."""

    def work() -> bool:
        with cluster.outside():
            connection = http.client.HTTPConnection(ADDRESS, 8000, timeout=2)
            try:
                connection.request("GET", "/index.html")
                return connection.getresponse().read() == b"page\n"
            except (OSError, http.client.HTTPException):
                return False
            finally:
                connection.close()

    with ThreadPoolExecutor(1) as pool:  # a thread of its own: the namespace is the thread's
        return pool.submit(work).result()


def holders(members: list[Member]) -> list[str]:
    """The members on which a load balancer has the address."""
    found: list[str] = []
    for member in members:
        for it in member.query("/1.0/instances?project=boxwright-wide&recursion=2"):
            networks = (it.get("state") or {}).get("network") or {}
            addresses = networks.get("lan0", {}).get("addresses") or ()
            if it["location"] == member.name and any(one["address"] == ADDRESS for one in addresses):
                found.append(member.name)
    return found


def test_networks_of_a_cluster(cluster: Cluster, boxwright: Program, tmp_path: Path, busybox_base: Path) -> None:
    (tmp_path / "Recipe").write_text(RECIPE.format(base=busybox_base))
    (tmp_path / "start").write_text(START)
    (tmp_path / "start").chmod(0o755)
    stack = Stack(cluster.program(boxwright, 1), tmp_path, "wide", "lxd")
    placed = "placement: {on: [node%d]}"
    containers = (
        f"  web: {{build: ., replicas: 3, {CHECK}}}\n"
        f"  near: {{build: ., {placed % 1}, {CHECK}}}\n"
        f"  far: {{build: ., {placed % 3}, {CHECK}}}\n"
    )
    more = (
        "networks: {in: {allow: ['far -> web:80']}}\nresolver: true\n"
        f"loadbalancer: {{web: {{listen: 8000, address: {ADDRESS}/24, interface: eth0}}}}\n"
    )
    stack.deploy(containers, more)
    found = status(stack("status", "--json"))
    assert {found[f"lb-{it}"]["member"] for it in (1, 2, 3)} == {"node1", "node2", "node3"}

    every = {f"web-{it}:80" for it in (1, 2, 3)}
    assert stack.reached("far", *every, "web-1:81") == every
    assert stack.reached("near", *every) == set()
    said = stack("exec", "wide/far", "nslookup", "-type=srv", "_http._tcp.web").out
    assert all(f"0 10 80 web-{it}" in said for it in (1, 2, 3))

    apart = more.replace("{in: {", "{in: {across: host, ")
    for text, joined in ((apart, False), (more, True)):
        assert "replace network in: it is" in stack.deploy(containers, text).err
        assert stack("deploy", "--plan").out == "nothing to do\n"
        assert (stack.reached("far", *every) == every) == joined

    until(lambda: answers(cluster), 10)
    members = list(cluster.members)
    before = holders(members)
    assert len(before) == 1
    victim = next(it for it in members if it.name in before)
    cluster.kill(victim)
    began = time.monotonic()
    until(lambda: answers(cluster), 10)
    assert time.monotonic() - began < 10
    left = [it for it in members if it is not victim]
    until(lambda: len(holders(left)) == 1, 30)
