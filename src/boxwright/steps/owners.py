"""``--chown`` and ``--chmod``: names are looked up in the tree that is copied to."""

from __future__ import annotations

from boxwright.errors import DefinitionError
from boxwright.model.image import Snapshot
from boxwright.ports import Workspace

MAX_ID = 2**32 - 2


def parse_owner(text: str, workspace: Workspace, parent: Snapshot) -> tuple[int, int]:
    """``USER[:GROUP]``, each a name or a number; without a group the group has the user's number, or its own.

    Empty parts are root's.
    """
    user, colon, group = text.partition(":")
    uid, own_group = _look_up(user, "etc/passwd", workspace, parent) if user else (0, 0)
    if not colon:
        return uid, own_group
    return uid, _look_up(group, "etc/group", workspace, parent)[0] if group else 0


def _look_up(name: str, file: str, workspace: Workspace, parent: Snapshot) -> tuple[int, int]:
    if name.isdecimal():
        number = int(name)
        if number > MAX_ID:
            raise DefinitionError("recipe.owner", f"--chown: {name} is no user or group id")
        return number, number
    located = workspace.locate(parent.manifest, file)
    place = workspace.physical(parent, located.path) if located.entry else None
    if place:
        with open(place, encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                fields = line.rstrip("\n").split(":")
                if fields[0] == name and len(fields) > 3:
                    return int(fields[2]), int(fields[3]) if file == "etc/passwd" else int(fields[2])
    raise DefinitionError("recipe.owner", f"--chown: there is no {name!r} in /{file} of the image")
