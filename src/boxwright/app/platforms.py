"""The machine's platform as OCI names it."""

from __future__ import annotations

import os
import re

from boxwright.errors import UsageError
from boxwright.frontends.recipe.predefined import same_platform


def machine_platform() -> str:
    """The machine's platform as OCI names it."""
    machine = os.uname().machine
    return "linux/" + {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm/v7"}.get(machine, machine)


def planned_platform(asked: str) -> str:
    """The platform that a package is planned for, also another than this one. Raises UsageError `usage.platform`."""
    if asked and not re.fullmatch(r"linux/[a-z0-9_]+(/[a-z0-9]+)?", asked):
        raise UsageError("usage.platform", f"--platform {asked} names none", hint="such as linux/amd64")
    return asked or machine_platform()


def checked_platform(asked: str) -> str:
    """The platform that is built for. Raises UsageError `usage.platform` for another one than this machine's."""
    own = machine_platform()
    if asked and not same_platform(asked, own):
        raise UsageError(
            "usage.platform",
            f"--platform {asked}: this machine builds for {own}",
            hint="leave it out, or build on a machine of that platform",
        )
    return own
