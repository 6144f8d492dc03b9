"""What makes a base boot as a system container (LXC, LXD) and get an address there."""

from __future__ import annotations

from pathlib import Path

_NETWORK = """[Match]
Name=eth0

[Network]
DHCP=yes
IPv6AcceptRA=yes

[DHCPv4]
ClientIdentifier=mac
UseDomains=yes
"""


def enable_dhcp(root: Path) -> None:
    """DHCP on eth0 by systemd-networkd, names by systemd-resolved, no name of its own (systemd.network(5))."""
    path = root / "etc/systemd/network/80-eth0.network"
    path.write_text(_NETWORK, "utf-8")
    path.chmod(0o644)
    (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    (root / "etc/hostname").write_text("", "utf-8")
    (root / "etc/hostname").chmod(0o644)
