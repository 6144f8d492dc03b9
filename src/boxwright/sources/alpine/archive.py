"""One package's file: compared with the signed index, then unpacked (apk-package(5), "PACKAGE FORMAT V2").

The index is signed and has the hash of the control segment, which has the hash of the data: so every byte that is used
is covered, and the package's own signature says nothing more.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import BinaryIO, NamedTuple

from boxwright.errors import FetchError
from boxwright.sources.alpine.index import Package
from boxwright.sources.alpine.segments import digest_range, files_of, read_segment

SCRIPTS = (
    "pre-install",
    "post-install",
    "pre-upgrade",
    "post-upgrade",
    "pre-deinstall",
    "post-deinstall",
    "trigger",
)


class Archive(NamedTuple):
    """What a package's file says of itself. `data_start` is where its files' archive begins; `sha256` of all of it."""

    package: Package
    scripts: dict[str, bytes]
    triggers: tuple[str, ...]
    replaces: str
    data_start: int
    sha256: str


def open_archive(file: BinaryIO, package: Package) -> Archive:
    """Read and check the package's file. Raises FetchError `base.changed` where it isn't what the index says."""
    if file.read(3) == b"ADB":
        raise FetchError(
            "base.unsupported",
            f"{package.file} is in package format 3, which is not read yet",
            hint="take a branch whose packages are in format 2, such as alpine:3.22",
        )
    control = read_segment(file, 0)
    if all(name.startswith(b".SIGN.") for name, _ in files_of(control.data)):
        control = read_segment(file, control.end)
    checksum = "Q1" + b64encode(digest_range(file, "sha1", control.start, control.end)).decode()
    if checksum != package.checksum:
        raise _changed(package, f"its description has the checksum {checksum}, the index says {package.checksum}")
    files = dict(files_of(control.data))
    information = _information(files.get(b".PKGINFO", b""))
    if (information.get("pkgname"), information.get("pkgver")) != ([package.name], [package.version]):
        raise _changed(package, "it says that it is another package")
    data = digest_range(file, "sha256", control.end).hex()
    if information.get("datahash") != [data]:
        raise _changed(package, f"its files have the SHA-256 {data}, which is not what its description says")
    return Archive(
        package,
        {name: files[key] for name in SCRIPTS if (key := b"." + name.encode()) in files},
        tuple(" ".join(information.get("triggers", [])).split()),
        " ".join(information.get("replaces", [])),
        control.end,
        digest_range(file, "sha256", 0).hex(),
    )


def _changed(package: Package, how: str) -> FetchError:
    return FetchError(
        "base.changed",
        f"{package.file} is not what the signed index promises: {how}",
        hint="try again later (the mirror may be in the middle of an update), or use another: --mirror URL",
    )


def _information(text: bytes) -> dict[str, list[str]]:
    """The lines ``key = value`` of .PKGINFO; a key may come several times."""
    found: dict[str, list[str]] = {}
    for line in text.decode("utf-8", "replace").splitlines():
        key, equals, value = line.partition(" = ")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value.strip())
    return found


def link_checksum(target: bytes) -> str:
    """What the database of installed packages holds of a symbolic link."""
    return "Q1" + b64encode(hashlib.sha1(target, usedforsecurity=False).digest()).decode()
