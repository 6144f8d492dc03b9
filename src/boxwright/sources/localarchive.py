"""An archive of exactly the packages that a lock lists, for mmdebstrap (Debian repository format, flat).

Which packages make up a base depends on the archive's priorities, which differ from those in the packages: they are
those of the lock.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from boxwright.errors import FetchError
from boxwright.sources.packages import BasePackage
from boxwright.sources.process import run_program

AT_ONCE = 4


class Pinned(NamedTuple):
    """What a base is made of again: `files` are its packages' by SHA-256; `sources` are the lines of sources.list.

    `scratch` is a directory for the archive, on the file system of `files`.
    """

    packages: Sequence[BasePackage]
    files: Mapping[str, str]
    sources: tuple[str, ...]
    scratch: str


def write_archive(pinned: Pinned, suite: str) -> str:
    """Write the archive; returns the line of sources.list for it."""
    directory = pinned.scratch
    for package in pinned.packages:
        os.link(pinned.files[package.sha256], f"{directory}/{package.sha256}.deb")
    with ThreadPoolExecutor(AT_ONCE) as threads:
        stanzas = list(threads.map(lambda package: _stanza(directory, package), pinned.packages))
    index = "\n".join(sorted(stanzas)).encode("utf-8", "surrogateescape")
    sums = f"SHA256:\n {hashlib.sha256(index).hexdigest()} {len(index)} Packages\n"
    for name, data in (("Packages", index), ("Release", f"Suite: {suite}\nCodename: {suite}\n{sums}".encode())):
        with open(f"{directory}/{name}", "wb") as file:
            file.write(data)
    return f"deb [trusted=yes] copy:{directory} ./"


def _stanza(directory: str, package: BasePackage) -> str:
    """The package's own description, with where its file is."""
    path = f"{directory}/{package.sha256}.deb"
    done = run_program(["dpkg-deb", "--field", path], package="dpkg")
    text = done.stdout.decode("utf-8", "surrogateescape").strip("\n")
    found = dict(re.findall(r"^(Package|Version|Architecture): *(\S+)$", text, re.MULTILINE))
    if done.status or (found.get("Package"), found.get("Version")) != (package.name, package.version):
        message = f"the file with sha256 {package.sha256} is not {package.name} {package.version}"
        raise FetchError(
            "lock.wrong-package",
            message,
            hint="the lock is not as it was written: take it from the version control again, or `boxwright update`",
        )
    if package.priority:
        text = re.sub(r"^Priority:.*\n?", "", text, flags=re.MULTILINE).rstrip("\n") + f"\nPriority: {package.priority}"
    size = os.stat(path).st_size
    return f"{text}\nFilename: ./{package.sha256}.deb\nSize: {size}\nSHA256: {package.sha256}\n"


Keep = Callable[[str, str], None]
"""Is told the path of a package's file, which it may take away, and its SHA-256."""


def hand_over(root: str, keep: Keep) -> None:
    """Give the packages' files that apt left below `root` to whoever keeps them."""
    from boxwright.files import hash_file

    archives = f"{root}/var/cache/apt/archives"
    for name in os.listdir(archives) if os.path.isdir(archives) else ():
        if name.endswith(".deb"):
            keep(f"{archives}/{name}", hash_file(f"{archives}/{name}"))
