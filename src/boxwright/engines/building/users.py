"""Users as an image's configuration names them, looked up in a container's own files (OCI image-spec, config.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from boxwright.errors import BoxwrightError


class Who(NamedTuple):
    """A user's numbers and home."""

    uid: int
    gid: int
    home: str


def find_user(text: str, read: Callable[[str], bytes | None]) -> Who:
    """``USER[:GROUP]``, names or numbers; ``""`` is root. Raises BoxwrightError `engine.no-user`."""
    user, _, group = (text or "0").partition(":")
    lines = _fields(read("/etc/passwd"))
    found = next((it for it in lines if it[0] == user), None) or next((it for it in lines if it[2:3] == [user]), None)
    if found is None and not user.isdigit():
        raise BoxwrightError("engine.no-user", f"the container has no user {user}")
    uid = int(found[2]) if found else int(user)
    gid = int(found[3]) if found else 0
    home = found[5] if found and found[5:6] and found[5] else "/"
    if group:
        groups = _fields(read("/etc/group"))
        named = next((it for it in groups if it[0] == group), None)
        if named is None and not group.isdigit():
            raise BoxwrightError("engine.no-user", f"the container has no group {group}")
        gid = int(named[2]) if named else int(group)
    return Who(uid, gid, "/root" if uid == 0 and found is None else home)


def _fields(data: bytes | None) -> list[list[str]]:
    lines = (data or b"").decode("utf-8", "replace").splitlines()
    return [fields for line in lines if len(fields := line.split(":")) >= 3 and fields[2].isdigit()]
