"""How a build reaches what is not on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from boxwright.errors import FetchError

VENDOR_FILE = "/etc/dpkg/origins/debian"
TIMEOUT_SECONDS = 60.0


class Outside(NamedTuple):
    """`mirror` of the command line comes before those of the configuration, by distribution.

    `snapshot` is the archive of old versions of Debian's packages; empty: none is asked. `timeout` is how many seconds
    a server may say nothing. With `offline` nothing is asked of anybody.
    """

    mirror: str | None = None
    mirrors: Mapping[str, str] = MappingProxyType({})
    snapshot: str = ""
    timeout: float = TIMEOUT_SECONDS
    offline: bool = False
    environment: Mapping[str, str] = MappingProxyType({})

    def mirror_of(self, distribution: str) -> str | None:
        """The one place where a distribution's packages are to be had, where somebody said one."""
        return self.mirror or self.mirrors.get(distribution)

    def require(self, what: str) -> None:
        """Raise `source.offline` where nothing may be fetched."""
        if self.offline:
            raise FetchError("source.offline", f"{what} is not here", hint="build once without --offline")


def debian_snapshot(vendor_file: str = VENDOR_FILE) -> str:
    """The archive of old versions beside Debian's own site, which dpkg's vendor file names; empty without that."""
    try:
        with open(vendor_file, encoding="utf-8") as file:
            fields = dict(line.split(": ", 1) for line in file.read().splitlines() if ": " in line)
    except OSError:
        return ""
    host = fields.get("Vendor-URL", "").partition("://")[2].strip("/ ")
    return f"https://snapshot.{host.removeprefix('www.')}" if host else ""


ANYWHERE = Outside()
"""Where nobody said anything."""
