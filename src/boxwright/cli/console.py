"""What is printed, and where."""

from __future__ import annotations

import sys

from boxwright.errors import BoxwrightError


def say(text: str) -> None:
    """A line for the user, on standard output: results."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """A line about the work, on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def warn(text: str) -> None:
    """What went another way than it should have; the work goes on."""
    note(f"warning: {text}")


def complain(error: BoxwrightError) -> None:
    """An error as a person reads it: where, what, its code, and what to do next."""
    where = f"{error.where}: " if error.where else ""
    note(f"{where}error: {error.message} [{error.code}]")
    if error.hint:
        note(f"  hint: {error.hint}")


def human_size(size: int) -> str:
    """Bytes as people read them, in powers of 1000."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
