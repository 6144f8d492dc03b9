"""passwd(5) and group(5) of a composed tree: what is there stays, what packages declare is added."""

from __future__ import annotations

from collections.abc import Sequence

from boxwright.errors import BoxwrightError
from boxwright.model.step import PackageUser

ROOT = PackageUser("root", 0, 0, "root", "/root", "/bin/sh")


def passwd(text: str, users: Sequence[tuple[PackageUser, str]]) -> str:
    """`text` with every user, each given with who wants it. Raises `compose.user` where a name or number is taken."""
    lines = _lines(text)
    names = {line[0]: line for line in lines}
    numbers = {line[2]: line[0] for line in lines if len(line) > 2}
    for user, by in users:
        _check(user, by)
        known = names.get(user.name)
        if known is not None:
            if known[2:4] != [str(user.uid), str(user.gid)]:
                raise _taken(f"the user {user.name} of {by} is {':'.join(known[2:4])}, not {user.uid}:{user.gid}")
            continue
        if numbers.get(str(user.uid), user.name) != user.name:
            raise _taken(f"the number {user.uid} of {by}'s user {user.name} is {numbers[str(user.uid)]}'s")
        names[user.name] = [user.name, "x", str(user.uid), str(user.gid), user.name, user.home, user.shell]
        numbers[str(user.uid)] = user.name
    return _text(list(names.values()))


def group(text: str, users: Sequence[tuple[PackageUser, str]]) -> str:
    """`text` with every user's group."""
    lines = _lines(text)
    names = {line[0]: line for line in lines}
    numbers = {line[2]: line[0] for line in lines if len(line) > 2}
    for user, by in users:
        known = names.get(user.group)
        if known is not None:
            if known[2] != str(user.gid):
                raise _taken(f"the group {user.group} of {by} is {known[2]}, not {user.gid}")
            continue
        taken = numbers.get(str(user.gid), user.group)
        if taken != user.group:
            raise _taken(f"the number {user.gid} of {by}'s group {user.group} is {taken}'s")
        names[user.group] = [user.group, "x", str(user.gid), ""]
        numbers[str(user.gid)] = user.group
    return _text(list(names.values()))


def _lines(text: str) -> list[list[str]]:
    return [line.split(":") for line in text.split("\n") if line.strip()]


def _check(user: PackageUser, by: str) -> None:
    """A package may come from elsewhere: its users are lines of passwd(5) and group(5), and no more."""
    for text in (user.name, user.group, user.home, user.shell):
        if any(mark == ":" or not mark.isprintable() for mark in text):
            raise BoxwrightError("compose.user", f"{text!r} of {by}'s user {user.name!r} can't stand in /etc/passwd")


def _text(lines: list[list[str]]) -> str:
    return "".join(f"{':'.join(line)}\n" for line in lines)


def _taken(message: str) -> BoxwrightError:
    return BoxwrightError("compose.user", message, hint="give it another uid and gid")
