"""Root without being root: a user namespace with the ids of /etc/subuid and /etc/subgid (user_namespaces(7))."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from boxwright.errors import MachineError
from boxwright.sandbox import syscalls

_FEWEST: Final = 65536


@dataclass(frozen=True, slots=True)
class Range:
    """Subordinate ids (subuid(5))."""

    start: int
    count: int


def enter_user_namespace() -> None:
    """Make this process uid 0 of a new user namespace: 0 is the user, 1 and up are the subordinate ids.

    Call it while this process has one thread. Raises MachineError where the machine isn't set up for it.
    """
    uid, gid = os.geteuid(), os.getegid()
    name = _name(uid)
    ranges = (read_ranges(Path("/etc/subuid"), name, uid), read_ranges(Path("/etc/subgid"), name, uid))
    programs = tuple(_program(program) for program in ("newuidmap", "newgidmap"))
    for file, found in zip(("/etc/subuid", "/etc/subgid"), ranges, strict=True):
        if sum(entry.count for entry in found) < _FEWEST:
            hint = f"as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"
            raise MachineError("machine.no-subuid", f"{name} has less than {_FEWEST} ids in {file}", hint=hint)
    commands = [
        [program, str(os.getpid()), *id_map(own, found)]
        for program, own, found in zip(programs, (uid, gid), ranges, strict=True)
    ]
    _unshare_with_helper(commands)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    # The kernel leaves groups from outside; they are nobody's in here and may not be kept by newgidmap's map.
    os.setgroups([])


def join_user_namespace(pid: int) -> None:
    """Become uid 0 of the user namespace of a process of the same user, as for `exec` in its container."""
    try:
        fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
        syscalls.setns(fd, syscalls.CLONE_NEWUSER)
    except OSError as error:
        message = f"the user namespace of process {pid} can't be joined: {error.strerror}"
        raise MachineError("machine.no-userns", message, hint="it may have ended: see `boxwright ps`") from error
    os.close(fd)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    os.setgroups([])


def read_ranges(path: Path, name: str, uid: int) -> tuple[Range, ...]:
    """The ranges of a user, by name or number, in the file's order."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return ()
    fields = (line.split(":") for line in lines)
    return tuple(
        Range(int(entry[1]), int(entry[2]))
        for entry in fields
        if len(entry) == 3 and entry[0] in (name, str(uid)) and entry[1].isdecimal() and entry[2].isdecimal()
    )


def id_map(own: int, ranges: tuple[Range, ...]) -> list[str]:
    """The arguments of newuidmap(1): 0 is the user's own id, the ranges follow one after the other."""
    words = ["0", str(own), "1"]
    inside = 1
    for entry in ranges:
        words += [str(inside), str(entry.start), str(entry.count)]
        inside += entry.count
    return words


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _program(name: str) -> str:
    if found := shutil.which(name):
        return found
    raise MachineError("machine.no-newuidmap", f"{name} is missing", hint="as root: apt-get install uidmap")


def _unshare_with_helper(commands: list[list[str]]) -> None:
    """A child that stays outside writes the maps once this process is in the new namespace."""
    inside_read, inside_write = os.pipe()
    result_read, result_write = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(inside_write)
        os.close(result_read)
        _map_when_told(inside_read, result_write, commands)
    os.close(inside_read)
    os.close(result_write)
    refused: OSError | None = None
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        os.write(inside_write, b"1")
    except OSError as error:
        refused = error
    os.close(inside_write)
    with os.fdopen(result_read, "rb") as answers:
        problem = answers.read().decode(errors="replace").strip()
    os.waitpid(helper, 0)
    if refused:
        hint = (
            "as root: sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000; where AppArmor "
            "restricts them, also kernel.apparmor_restrict_unprivileged_userns=0"
        )
        message = f"the kernel refuses a user namespace: {refused.strerror}"
        raise MachineError("machine.no-userns", message, hint=hint) from refused
    if problem:
        hint = "as root: apt-get install --reinstall uidmap; ranges of /etc/subuid and /etc/subgid must not overlap"
        raise MachineError("machine.no-newuidmap", f"the ids can't be mapped: {problem}", hint=hint)


def _map_when_told(told: int, answer: int, commands: list[list[str]]) -> None:
    problem = "the helper failed"
    try:
        if not os.read(told, 1):
            os._exit(1)
        problem = ""
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            if done.returncode:
                problem = done.stderr or f"{command[0]} ended with {done.returncode}"
                break
    except OSError as error:
        problem = str(error)
    finally:
        os.write(answer, problem.encode())
        os._exit(0)
