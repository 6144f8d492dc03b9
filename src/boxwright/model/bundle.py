"""What a bundle is made of: the files of one revision of an application."""

from __future__ import annotations

import stat
from typing import NamedTuple

FILE, PROGRAM, LINK, DIRECTORY = 0o100644, 0o100755, 0o120777, 0o040755
"""The modes that a bundle knows, as a ZIP's external attributes have them."""


class BundleFile(NamedTuple):
    """One path of a bundle (relative, with slashes).

    A file's `size` bytes lie in the file `place` from `offset` on; where `place` is empty they are `data`, as is a
    link's target. An empty directory has mode DIRECTORY and no bytes.
    """

    path: str
    mode: int
    size: int = 0
    place: str = ""
    offset: int = 0
    data: bytes = b""

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode)


class Revision(NamedTuple):
    """What is bundled: `name` identifies it (a commit's id; empty where content alone says), `time` in seconds."""

    project: str
    name: str
    time: int


def plain_mode(mode: int) -> int:
    """One of the four modes, for a mode as stat gives it: whether its owner may execute it is all that counts."""
    if stat.S_ISLNK(mode):
        return LINK
    if stat.S_ISDIR(mode):
        return DIRECTORY
    return PROGRAM if mode & 0o100 else FILE


def container_variables(
    url: str,
    sha256: str = "",
    token: str = "",
    *,
    public_key: str = "",
    manifest_url: str = "",
    signature_url: str = "",
) -> dict[str, str]:
    """The environment by which a container of a base image fetches the bundle at `url`; what is empty is left out.

    `sha256` is the ZIP's digest (64 hexadecimal digits, ``sha256:`` before them or not), `token` a bearer token,
    `public_key` an Ed25519 key (PEM) that must have signed the manifest. A container that is started with another `url`
    or `sha256` runs another revision.
    """
    variables = {
        "PACKAGE_ZIP_URL": url,
        "PACKAGE_ZIP_SHA256": sha256.removeprefix("sha256:"),
        "PACKAGE_ZIP_TOKEN": token,
        "PACKAGE_ZIP_PUBKEY": public_key,
        "PACKAGE_ZIP_MANIFEST_URL": manifest_url,
        "PACKAGE_ZIP_SIGNATURE_URL": signature_url,
    }
    return {name: value for name, value in variables.items() if value}
