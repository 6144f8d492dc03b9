"""Who a process is: `user[:group]` of an image's configuration, looked up in the tree's own /etc/passwd and /etc/group.

passwd(5), group(5); the rules are those of the OCI image specification, config.md, `User`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

_LIMIT: Final = 16 << 20
_HIGHEST: Final = 2**32 - 2


class UnknownUserError(ValueError):
    """The user or group is not in the tree."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Numbers and home directory of a user."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def look_up(user: str, passwd: str, group: str) -> Identity:
    """`user` is empty (root), a name, a number, or either with `:` and a group. Digits are a number, never a name."""
    name, _, group_name = user.partition(":")
    name = name or "0"
    accounts = _fields(passwd, 6)
    groups = _fields(group, 3)
    uid, gid, home = _account(name, accounts)
    account_name = next((fields[0] for fields in accounts if fields[2] == str(uid)), "")
    if account_name and not name.isdecimal():
        account_name = name
    if group_name:
        return Identity(uid, _group(group_name, groups), (), home)
    more = {int(fields[2]) for fields in groups if len(fields) > 3 and account_name in fields[3].split(",")}
    return Identity(uid, gid, tuple(sorted(more - {gid})) if account_name else (), home)


def in_tree(user: str) -> Identity:
    """As `look_up`, with the files under this process's root."""
    return look_up(user, _read("/etc/passwd"), _read("/etc/group"))


def _account(name: str, accounts: list[list[str]]) -> tuple[int, int, str]:
    for fields in accounts:
        if fields[2] == str(int(name)) if name.isdecimal() else fields[0] == name:
            return int(fields[2]), int(fields[3]) if fields[3].isdecimal() else 0, fields[5] or "/"
    if name.isdecimal() and int(name) <= _HIGHEST:
        return int(name), 0, "/root" if int(name) == 0 else "/"
    raise UnknownUserError(f"no user {name!r} in the tree's /etc/passwd")


def _group(name: str, groups: list[list[str]]) -> int:
    for fields in groups:
        if fields[0] == name:
            return int(fields[2])
    if name.isdecimal() and int(name) <= _HIGHEST:
        return int(name)
    raise UnknownUserError(f"no group {name!r} in the tree's /etc/group")


def _fields(text: str, at_least: int) -> list[list[str]]:
    lines = (line.split(":") for line in text.splitlines() if line and not line.startswith("#"))
    return [fields for fields in lines if len(fields) >= at_least and fields[2].isdecimal()]


def _read(path: str) -> str:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            parts: list[bytes] = []
            while part := os.read(file, _LIMIT - sum(map(len, parts))):
                parts.append(part)
            return b"".join(parts).decode(errors="surrogateescape")
        finally:
            os.close(file)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""
