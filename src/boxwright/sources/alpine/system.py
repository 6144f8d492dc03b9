"""What makes an Alpine base boot as a system container (LXC, LXD) and get an address there."""

from __future__ import annotations

from boxwright.sources.alpine.database import make_tar
from boxwright.sources.alpine.tree import Tree

PACKAGES = ("alpine-base", "openrc", "busybox-ifupdown")
"""OpenRC, and busybox's DHCP client and ifup; their services come along (install_if). Old branches lack the last."""

_SERVICES = {
    "boot": ("bootmisc", "networking", "syslog"),
    "default": ("crond",),
    "shutdown": ("killprocs", "savecache"),
}
_INTERFACES = "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n"
_INITTAB = """::sysinit:/sbin/openrc sysinit
::sysinit:/sbin/openrc boot
::wait:/sbin/openrc default
::respawn:/sbin/getty 38400 console
::ctrlaltdel:/sbin/reboot
::shutdown:/sbin/openrc shutdown
"""


def enable_system(tree: Tree, time: int) -> None:
    """Services by their runlevels, DHCP on eth0, a console, and OpenRC told that it is in a container (rc.conf)."""
    links = {
        f"etc/runlevels/{level}/{service}": f"/etc/init.d/{service}"
        for level, services in _SERVICES.items()
        for service in services
        if tree.has(f"etc/init.d/{service}")
    }
    settings = tree.read("etc/rc.conf")
    files = {
        "etc/network/interfaces": _INTERFACES.encode(),
        "etc/inittab": _INITTAB.encode(),
        "etc/rc.conf": settings + b'\nrc_sys="lxc"\n',
        "etc/hostname": b"",
    }
    tree.write(make_tar({}, files, links, time))
