"""Images of the store for LXD."""

from __future__ import annotations

import tempfile
from pathlib import Path

from boxwright.app.lookup import find_image
from boxwright.engines.deploy.lxdinstance import HOSTS, HOSTS_TEMPLATE
from boxwright.engines.lxdclient.client import LxdClient
from boxwright.engines.lxdclient.failures import LxdError
from boxwright.engines.lxdclient.images import import_image, name_image
from boxwright.model.digest import hex_of
from boxwright.store.store import Store


def load_image(store: Store, client: LxdClient, identity: str, alias: str) -> None:
    """Bring an image, uncompressed, and give it this alias. Its instances begin with the names that they are told."""
    from boxwright.images.layer import Packing
    from boxwright.images.lxd import write_lxd

    image = find_image(store, identity)
    with tempfile.TemporaryDirectory(prefix="boxwright-") as directory:
        archive = Path(directory) / "image.tar"
        written = write_lxd(image, store, archive, alias, Packing("none"), {HOSTS: ("names.tpl", HOSTS_TEMPLATE)})
        fingerprint = hex_of(written.digest)
        if client.find(f"/images/{fingerprint}") is None:
            try:
                with archive.open("rb") as file:
                    fingerprint = import_image(client, file)
            except LxdError as error:
                if error.code != "lxd.exists":
                    raise
    name_image(client, alias, fingerprint)
