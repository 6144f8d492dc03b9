"""Control groups of the caller's choice for a sandbox (cgroups(7)): version 2, version 1, or both beside each other."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from boxwright.errors import MachineError, UsageError

_INHERITED: Final = ("cpuset.cpus", "cpuset.mems")
_PATIENCE: Final = 100


@contextmanager
def below(parent: str) -> Iterator[tuple[str, ...]]:
    """Groups of one sandbox's own below `parent`, a path from the root of each hierarchy; gone at the end.

    Nothing where `parent` is empty. Raises MachineError `machine.cgroup` where none can be made.
    """
    if not parent:
        yield ()
        return
    made: list[str] = []
    name = f"boxwright-{os.urandom(6).hex()}"
    try:
        for root in hierarchies():
            _make(root, check_parent(parent), name, made)
        if not made:
            raise MachineError("machine.cgroup", "no control groups are mounted on this machine", hint=_HINT)
        yield tuple(path for path in made if path.endswith(name))
    finally:
        for path in reversed(made):
            _remove(path, patiently=path.endswith(name))


_HINT: Final = "leave --cgroup-parent out, or let this user write below it (as root: chown)"


def check_parent(parent: str) -> str:
    """`parent` without slashes at its ends. Raises UsageError where it could lead elsewhere."""
    parts = parent.strip("/").split("/")
    if "" in parts or ".." in parts or "." in parts or "\0" in parent:
        raise UsageError("usage.cgroup-parent", f"--cgroup-parent {parent}: a path such as /builds is expected")
    return "/".join(parts)


def hierarchies(mountinfo: str = "") -> tuple[str, ...]:
    """Where control groups are mounted (proc(5), "mountinfo"): each hierarchy once."""
    if not mountinfo:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            mountinfo = file.read()
    found: dict[str, str] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if kind[0] in ("cgroup", "cgroup2") and fields[3] == "/":
            found.setdefault(fields[2], fields[4].replace("\\040", " "))
    return tuple(found.values())


def _make(root: str, parent: str, name: str, made: list[str]) -> None:
    path = root
    for part in (*parent.split("/"), name):
        above, path = path, f"{path}/{part}"
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            continue
        except OSError as error:
            message = f"the control group {path} can't be made: {error.strerror}"
            raise MachineError("machine.cgroup", message, hint=_HINT) from error
        made.append(path)
        for file in _INHERITED:  # version 1 takes no process before these are set
            _inherit(f"{above}/{file}", f"{path}/{file}")


def _inherit(source: str, target: str) -> None:
    try:
        with open(target, encoding="ascii") as file:
            if file.read().strip():
                return
        with open(source, encoding="ascii") as file:
            value = file.read()
        with open(target, "w", encoding="ascii") as file:
            file.write(value)
    except OSError:
        return  # not this controller; where it is, joining says what is wrong


def _remove(path: str, *, patiently: bool) -> None:
    """The kernel may still be taking the last process out of it; a parent may be of use to others by now."""
    for _ in range(_PATIENCE if patiently else 1):
        with suppress(OSError):
            os.rmdir(path)
        if not os.path.isdir(path):
            return
        time.sleep(0.01)
