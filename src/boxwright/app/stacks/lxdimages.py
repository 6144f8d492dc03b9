"""Images of the store for LXD: brought there, and what must be known of them beside."""

from __future__ import annotations

import tempfile
from pathlib import Path

from boxwright.app.lookup import find_image
from boxwright.engines.lxdclient.client import LxdClient
from boxwright.engines.lxdclient.failures import LxdError
from boxwright.engines.lxdclient.images import import_image, name_image
from boxwright.errors import BoxwrightError
from boxwright.model.digest import hex_of
from boxwright.ports import WriteRequest
from boxwright.store.store import Store

_FIELDS = 4


def load_image(store: Store, client: LxdClient, identity: str, alias: str) -> None:
    """Bring an image, uncompressed, and give it this alias."""
    from boxwright.images.writers import write_request

    image = find_image(store, identity)
    with tempfile.TemporaryDirectory(prefix="boxwright-") as directory:
        archive = Path(directory) / "image.tar"
        request = WriteRequest("lxd", archive, alias, {"compression": "none"})
        written = write_request(image, store, request, ())
        fingerprint = hex_of(written.digest)
        if client.find(f"/images/{fingerprint}") is None:
            try:
                with archive.open("rb") as file:
                    fingerprint = import_image(client, file)
            except LxdError as error:
                if error.code != "lxd.exists":
                    raise
    name_image(client, alias, fingerprint)


def user_ids(store: Store, identity: str, user: str) -> tuple[int, int]:
    """The numbers of ``USER[:GROUP]`` in an image's own /etc/passwd. Raises BoxwrightError `deploy.user`."""
    name, _, group = user.partition(":")
    accounts = {it[0]: (int(it[2]), int(it[3])) for it in _table(store, identity, "etc/passwd")}
    groups = {it[0]: int(it[2]) for it in _table(store, identity, "etc/group")}
    if name.isdecimal():
        uid = int(name)
        gid = next((own[1] for own in accounts.values() if own[0] == uid), 0)
    elif name in accounts:
        uid, gid = accounts[name]
    else:
        raise BoxwrightError("deploy.user", f"the image has no user {name!r}", hint="see /etc/passwd in it")
    if group:
        if not group.isdecimal() and group not in groups:
            raise BoxwrightError("deploy.user", f"the image has no group {group!r}", hint="see /etc/group in it")
        gid = int(group) if group.isdecimal() else groups[group]
    return uid, gid


def _table(store: Store, identity: str, path: str) -> list[list[str]]:
    """The lines of a file such as passwd(5)."""
    place = store.physical(find_image(store, identity).snapshot, path)
    if place is None:
        return []
    with open(place, encoding="utf-8", errors="replace") as file:
        lines = [line.rstrip("\n").split(":") for line in file]
    return [
        it for it in lines if len(it) >= _FIELDS and it[2].isdecimal() and (it[3].isdecimal() or len(it) == _FIELDS)
    ]
