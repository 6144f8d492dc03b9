"""Networks by OVN, on a cluster of one member whose Open vSwitch forwards in user space."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.integration.cluster import Cluster, remove_leftovers
from tests.integration.test_networks import CHECK, RECIPE, START, Stack

pytestmark = [pytest.mark.integration, pytest.mark.engine("lxd"), pytest.mark.engine("ovn"), pytest.mark.long]

_SCRIPT = """\
set -e
mkdir -p "$1.db" "$1.bin" /run/openvswitch /run/ovn
mount -t tmpfs tmpfs /run/openvswitch
mount -t tmpfs tmpfs /run/ovn
cat >"$1.bin/ovs-vsctl" <<'END'
#!/bin/sh
# LXD makes its bridges for the kernel's datapath, which not every kernel has.
for word in "$@"; do
    [ "$adding" != yes ] || bridge=$word
    adding=
    [ "$word" != add-br ] || adding=yes
done
[ -z "$bridge" ] || set -- "$@" -- set bridge "$bridge" datapath_type=netdev
exec /usr/bin/ovs-vsctl "$@"
END
chmod 0755 "$1.bin/ovs-vsctl"
ovsdb-tool create "$1.db/switch" /usr/share/openvswitch/vswitch.ovsschema
ovsdb-tool create "$1.db/north" /usr/share/ovn/ovn-nb.ovsschema
ovsdb-tool create "$1.db/south" /usr/share/ovn/ovn-sb.ovsschema
ovsdb-server "$1.db/switch" --remote=punix:/run/openvswitch/db.sock --pidfile --detach
ovsdb-server "$1.db/north" "$1.db/south" --remote=punix:/run/ovn/ovnnb_db.sock --remote=punix:/run/ovn/ovnsb_db.sock \
    --pidfile=/run/ovn/db.pid --unixctl=/run/ovn/db.ctl --detach
ovs-vsctl --no-wait init
ovs-vsctl --no-wait set open_vswitch . external_ids:system-id=node1 external_ids:ovn-encap-type=geneve \
    external_ids:ovn-remote=unix:/run/ovn/ovnsb_db.sock external_ids:ovn-encap-ip=10.1.1.101 \
    external_ids:ovn-bridge-datapath-type=netdev other_config:userspace-tso-enable=true
ovs-vswitchd --pidfile --detach
ovn-northd --ovnnb-db=unix:/run/ovn/ovnnb_db.sock --ovnsb-db=unix:/run/ovn/ovnsb_db.sock --pidfile --detach
ovn-controller --pidfile --detach
"""


class OvnCluster(Cluster):
    """Of one member."""

    script = _SCRIPT + Cluster.script

    def __init__(self, identity: str, directory: Path) -> None:
        super().__init__(identity, directory)
        self.members = self.members[:1]

    def lxc(self, *words: str) -> str:
        """One of LXD's own commands."""
        environment = {**self.members[0].environment, "PATH": "/usr/bin:/bin", "HOME": "/root"}
        done = subprocess.run(
            ["lxc", *words], env=environment, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
        )
        return done.stdout


@pytest.fixture
def cluster(boxwright: Program) -> Iterator[OvnCluster]:
    remove_leftovers()
    identity = f"o{os.getpid():x}"
    made = OvnCluster(identity, Path(f"/var/tmp/bwc{identity}"))
    try:
        made.up(boxwright)
        made.lxc("network", "create", "uplink0", "--target", "node1")
        more = ("ipv6.address=none", "ipv4.nat=true", "ipv4.dhcp.ranges=10.9.9.10-10.9.9.50")
        made.lxc("network", "create", "uplink0", "ipv4.address=10.9.9.1/24", *more)
        made.lxc("config", "set", "network.ovn.northbound_connection", "unix:/run/ovn/ovnnb_db.sock")
        yield made
    finally:
        made.down()


def test_a_network_of_ovn(cluster: OvnCluster, boxwright: Program, tmp_path: Path, busybox_base: Path) -> None:
    (tmp_path / "Recipe").write_text(RECIPE.format(base=busybox_base))
    (tmp_path / "start").write_text(START)
    (tmp_path / "start").chmod(0o755)
    stack = Stack(cluster.program(boxwright, 1), tmp_path, "over", "lxd")
    containers = f"  web: {{build: ., {CHECK}}}\n  other: {{build: ., {CHECK}}}\n"
    rules = "networks: {in: {allow: ['other -> web:80']}}\n"

    def kinds() -> list[str]:
        lines = (it.split(",") for it in cluster.lxc("network", "list", "-f", "csv").splitlines())
        return [it[1] for it in lines if it[0].startswith("bw")]

    # Without a network that has addresses for it, it is bridges.
    stack.deploy(containers, rules)
    assert kinds() == ["bridge"]
    stack("destroy", "--yes")
    assert kinds() == []

    cluster.lxc("network", "set", "uplink0", "ipv4.ovn.ranges=10.9.9.100-10.9.9.200")
    stack.deploy(containers, rules)
    assert kinds() == ["ovn"]
    assert stack.reached("other", "web:80", "web-1:80", "web:81") == {"web:80", "web-1:80"}
    assert stack.reached("web", "other:80") == set()
    assert stack("deploy").out == "over: nothing to do\n"
    stack("destroy", "--yes")
    assert kinds() == []
