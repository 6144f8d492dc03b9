"""Images of a server: brought there and fetched from it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from typing import IO
from urllib.parse import urlencode

from boxwright.engines.lxdclient.client import Json, LxdClient
from boxwright.engines.lxdclient.failures import malformed
from boxwright.engines.lxdclient.transport import PIECE, Body, Patience

TRANSFER = Patience(1800.0)


def import_image(
    client: LxdClient,
    archive: Body,
    *,
    properties: Mapping[str, str] | None = None,
    name: str = "image.tar",
    patience: Patience = TRANSFER,
) -> str:
    """Bring a unified image (one tar of metadata.yaml and rootfs/); returns its fingerprint.

    LXD 5.0 ends itself where metadata.yaml has no `properties:` and some are given. Raises LxdError: `lxd.exists`
    where this very image is there.
    """
    headers = {"Content-Type": "application/octet-stream", "X-LXD-filename": name}
    headers |= _properties(properties or {})
    return _imported(client, client.send("POST", "/images", archive, headers=headers, patience=patience), patience)


def import_split_image(
    client: LxdClient,
    metadata: IO[bytes],
    rootfs: IO[bytes],
    *,
    properties: Mapping[str, str] | None = None,
    patience: Patience = TRANSFER,
) -> str:
    """Bring an image of two files: the archive of metadata.yaml, and the root file system (tar or squashfs).

    Both must be real files, since their sizes are sent first. Returns its fingerprint. Raises LxdError.
    """
    boundary = secrets.token_hex(16)
    parts = [(_part(boundary, "metadata"), metadata), (_part(boundary, "rootfs"), rootfs)]
    end = f"\r\n--{boundary}--\r\n".encode()
    size = sum(len(head) + os.fstat(file.fileno()).st_size for head, file in parts) + len(end)
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": str(size)}
    headers |= _properties(properties or {})

    def body() -> Iterator[bytes]:
        for head, file in parts:
            yield head
            yield from _pieces(file)
        yield end

    return _imported(client, client.send("POST", "/images", body(), headers=headers, patience=patience), patience)


def _imported(client: LxdClient, answered: tuple[int, bytes], patience: Patience) -> str:
    what = "an image's import"
    state = client.wait(client.operation_of(client.answer(what, answered)), what, patience)
    return _fingerprint(client, what, state)


def publish(client: LxdClient, source: Mapping[str, str], *, patience: Patience = TRANSFER) -> str:
    """Make an uncompressed image of an instance or a snapshot (`source` as LXD has it); returns its fingerprint."""
    body = {"source": dict(source), "compression_algorithm": "none"}
    return _fingerprint(client, "an image", client.run("POST", "/images", body, patience=patience))


def export_image(client: LxdClient, fingerprint: str) -> Iterator[bytes]:
    """The bytes of a unified image's archive. Raises LxdError."""
    with client.stream(f"/images/{fingerprint}/export", patience=TRANSFER) as (_, pieces):
        yield from pieces


def remove_image(client: LxdClient, fingerprint: str) -> None:
    """Remove it. Raises LxdError."""
    client.run("DELETE", f"/images/{fingerprint}")


def name_image(client: LxdClient, alias: str, fingerprint: str) -> None:
    """Let `alias` name the image, whatever it named before. Raises LxdError."""
    path = f"/images/aliases/{alias}"
    if client.find(path) is None:
        client.run("POST", "/images/aliases", {"name": alias, "target": fingerprint})
    else:
        client.run("PATCH", path, {"target": fingerprint})


def _fingerprint(client: LxdClient, what: str, state: Json) -> str:
    found = (state.get("metadata") or {}).get("fingerprint")
    if not isinstance(found, str):
        raise malformed(what, client.endpoint.name, "an image without a fingerprint")
    return found


def _properties(properties: Mapping[str, str]) -> dict[str, str]:
    return {"X-LXD-properties": urlencode(properties)} if properties else {}


def _part(boundary: str, name: str) -> bytes:
    # The first boundary may stand behind an empty line too (RFC 2046, section 5.1.1).
    disposition = f'Content-Disposition: form-data; name="{name}"; filename="{name}"'
    return f"\r\n--{boundary}\r\n{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(PIECE):
        yield piece
