"""Trees that packages are built in: toolchains, and packages of the distribution."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from urllib.parse import quote

from boxwright.errors import FetchError
from boxwright.model.step import Base
from boxwright.sources.debian import fetch_binary, unpack_binary
from boxwright.sources.reduce import TIME, reduce_tree
from boxwright.steps.package import remove
from boxwright.store.packages import Packages
from boxwright.store.store import Store


def fetch_toolchain(
    base: Base, directory: str, store: Store, mirror: str | None, output: Callable[[bytes], None]
) -> int:
    """Fill `directory` with a toolchain's reduced tree; returns the newest time in it.

    The name is ``BASE PACKAGE ...``. What a bootstrapped one is made of is remembered for the lock.
    """
    name, *packages = base.name.split(" ") if not base.name.startswith("tar:") else [base.name]
    architecture = base.platform.split("/")[1]
    if name.startswith("tar:"):
        from boxwright.sources.unpack import unpack_tar

        unpack_tar(name.removeprefix("tar:").rpartition("@")[0], directory)
    elif name.split(":")[0] in ("debian", "ubuntu"):
        from boxwright.sources.bootstrap import bootstrap

        more = f"?packages={quote(','.join(packages), safe=',')}" if packages else ""
        result = bootstrap(name + more, directory, mirror=mirror, output=output, architecture=architecture)
        listed = json.dumps([[item.name, item.version, item.architecture, item.sha256] for item in result.packages])
        with store.index.writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO bases VALUES (?, ?, ?, ?, ?, ?)",
                (f"toolchain:{base.name} {base.platform}", "", "{}", "", listed, int(time.time())),
            )
    else:
        raise FetchError("base.not-yet", f"{name} can't be a toolchain", hint="debian:SUITE, ubuntu:SUITE or tar:FILE")
    reduce_tree(directory)
    return TIME


def fetch_debian(base: Base, directory: str, store: Store, output: Callable[[bytes], None]) -> int | None:
    """Fill `directory` with the files of a binary package ``NAME=VERSION``, without its scripts."""
    packages = Packages(store)
    content = str(base.pinned) if base.pinned else ""
    blob = packages.blob(content) if content else None
    if blob is None:
        found = fetch_deb(packages, base.name, output)
        if content and found != content:
            raise FetchError("source.checksum", f"debian/{base.name} is now {found}, not {content}")
        blob = packages.blob(found)
    if blob is None:
        raise FetchError("store.gone", f"{base.name} was removed while it was needed", hint="build again")
    unpack_binary(blob, directory)
    return None


def fetch_deb(packages: Packages, package: str, output: Callable[[bytes], None]) -> str:
    """Fetch the file of a binary package ``NAME=VERSION`` and keep it; returns its digest."""
    name, _, version = package.partition("=")
    with packages.adding() as part:
        place = f"{part}.d"
        os.makedirs(place)
        try:
            return packages.add(fetch_binary(name, version, place, packages.cache("apt"), output))
        finally:
            remove(place)
