"""Files of an instance, over the server: what stands at a path, written and read without any help inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from boxwright.engines.lxdclient.client import LxdClient
from boxwright.engines.lxdclient.failures import malformed
from boxwright.engines.lxdclient.transport import Body, Patience

TRANSFER = Patience(600.0)
"""How long the server may think about one file."""


class FileAttributes(NamedTuple):
    """What LXD says of a path: `kind` is file, directory or symlink."""

    kind: str
    uid: int
    gid: int
    mode: int


def push_file(
    client: LxdClient,
    instance: str,
    path: str,
    data: Body,
    *,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    patience: Patience = TRANSFER,
) -> None:
    """Write a file, in place of what stood there; set-id bits and times are lost. Its directory must be there."""
    _put(client, instance, path, data, FileAttributes("file", uid, gid, mode), patience)


def push_directory(
    client: LxdClient, instance: str, path: str, *, mode: int = 0o755, uid: int = 0, gid: int = 0
) -> None:
    """Make a directory; one that is there is left as it is. Raises LxdError."""
    _put(client, instance, path, b"", FileAttributes("directory", uid, gid, mode), TRANSFER)


def push_link(client: LxdClient, instance: str, path: str, to: str) -> None:
    """Make a symbolic link. Raises LxdError."""
    _put(client, instance, path, to.encode(), FileAttributes("symlink", 0, 0, 0o777), TRANSFER)


def _put(
    client: LxdClient, instance: str, path: str, data: Body, attributes: FileAttributes, patience: Patience
) -> None:
    headers = {
        "Content-Type": "application/octet-stream",
        "X-LXD-type": attributes.kind,
        "X-LXD-mode": f"0{attributes.mode:o}",
        "X-LXD-uid": str(attributes.uid),
        "X-LXD-gid": str(attributes.gid),
        "X-LXD-write": "overwrite",
    }
    where = f"/instances/{instance}/files"
    answered = client.send("POST", where, data, query={"path": path}, headers=headers, patience=patience)
    client.answer(f"{instance}: {path}", answered)


def pull_file(client: LxdClient, instance: str, path: str, write: Callable[[bytes], object]) -> FileAttributes:
    """Hand on a file's bytes (a link's target); returns what it is. Raises LxdError, `lxd.not-found` among others."""
    with client.stream(f"/instances/{instance}/files", query={"path": path}) as (headers, pieces):
        found = _attributes(client, f"{instance}: {path}", headers)
        for piece in pieces:
            if found.kind != "directory":
                write(piece)
    return found


def list_directory(client: LxdClient, instance: str, path: str) -> list[str]:
    """The names in a directory. Raises LxdError."""
    answer: Any = client.get(f"/instances/{instance}/files", path=path)
    if not isinstance(answer, list):
        raise malformed(f"{instance}: {path}", client.endpoint.name, "no directory")
    return sorted(str(name) for name in answer)


def remove_file(client: LxdClient, instance: str, path: str) -> None:
    """Remove a file or an empty directory. Raises LxdError."""
    client.request("DELETE", f"/instances/{instance}/files", query={"path": path})


def _attributes(client: LxdClient, what: str, headers: Any) -> FileAttributes:  # noqa: ANN401 - any mapping
    lower = {name.lower(): value for name, value in headers.items()}
    try:
        return FileAttributes(
            lower["x-lxd-type"],
            int(lower["x-lxd-uid"]),
            int(lower["x-lxd-gid"]),
            int(lower["x-lxd-mode"], 8),
        )
    except (KeyError, ValueError) as error:
        raise malformed(what, client.endpoint.name, "a file without attributes") from error
