"""What an ordinary user needs before layers can be read or written."""

from __future__ import annotations

import os


def ensure_privileges() -> None:
    """Become root of a user namespace, unless this process is root already. Call it while it has one thread.

    Raises MachineError `machine.no-subuid`, `machine.no-userns` or `machine.no-newuidmap`.
    """
    if os.geteuid() != 0:
        from boxwright.sandbox.userns import enter_user_namespace

        enter_user_namespace()
