"""Signals as people and images write them (signal(7)); which are handed on to a container."""

from __future__ import annotations

import signal
from typing import Final

from boxwright.errors import UsageError

FORWARDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def signal_number(text: str, default: int = signal.SIGTERM) -> int:
    """``SIGQUIT``, ``QUIT``, ``3`` or ``RTMIN+3``; empty is the default. Raises UsageError `usage.signal`."""
    name = text.strip().upper()
    if not name:
        return default
    if name.isdecimal() and int(name) in signal.valid_signals():
        return int(name)
    base, plus, offset = name.removeprefix("SIG").partition("+")
    found = getattr(signal, f"SIG{base}", None)
    if isinstance(found, signal.Signals) and offset.isdecimal() == bool(plus):
        number = found + int(offset or 0)
        if number in signal.valid_signals():
            return number
    raise UsageError("usage.signal", f"{text!r} is no signal", hint="such as SIGTERM, QUIT or 9")
