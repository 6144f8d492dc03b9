"""Who a user of an image is, by the image's own /etc/passwd and /etc/group (passwd(5), group(5))."""

from __future__ import annotations

from typing import NamedTuple

from boxwright.app.lookup import find_image
from boxwright.errors import BoxwrightError
from boxwright.store.store import Store

_PASSWD, _GROUP = 6, 3
"""Fields that a line must have: to the home directory, and to the number."""


class ImageUser(NamedTuple):
    """The numbers of a user, and where it is at home."""

    uid: int
    gid: int
    home: str


def user_of(store: Store, identity: str, user: str) -> ImageUser:
    """A ``USER[:GROUP]`` of an image, by name or number. Raises BoxwrightError `deploy.user`."""
    name, _, group = user.partition(":")
    accounts = _table(store, identity, "etc/passwd", _PASSWD)
    known = {it[0]: ImageUser(int(it[2]), int(it[3]), it[5] or "/") for it in accounts if it[3].isdecimal()}
    groups = {it[0]: int(it[2]) for it in _table(store, identity, "etc/group", _GROUP)}
    if name in known:
        found = known[name]
    elif name.isdecimal():
        nobody = ImageUser(int(name), 0, "/root" if name == "0" else "/")
        found = next((it for it in known.values() if it.uid == int(name)), nobody)
    else:
        raise BoxwrightError("deploy.user", f"the image has no user {name!r}", hint="see /etc/passwd in it")
    if group:
        if not group.isdecimal() and group not in groups:
            raise BoxwrightError("deploy.user", f"the image has no group {group!r}", hint="see /etc/group in it")
        found = found._replace(gid=int(group) if group.isdecimal() else groups[group])
    return found


def _table(store: Store, identity: str, path: str, fields: int) -> list[list[str]]:
    place = store.physical(find_image(store, identity).snapshot, path)
    if place is None:
        return []
    with open(place, encoding="utf-8", errors="replace") as file:
        lines = [line.rstrip("\n").split(":") for line in file]
    return [it for it in lines if len(it) >= fields and it[2].isdecimal()]
