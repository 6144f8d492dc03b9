"""Trees that packages are built in: toolchains, and packages of the distribution."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote

from boxwright.app.basesystems import Surroundings, make_base_system
from boxwright.app.outside import Outside
from boxwright.app.poolfiles import own_distribution, provide_files
from boxwright.errors import FetchError
from boxwright.model.step import Base
from boxwright.sources.debian import debian_architecture, unpack_binary
from boxwright.sources.pool import PoolFile
from boxwright.sources.reduce import TIME, reduce_tree
from boxwright.store.packages import Packages
from boxwright.store.store import Store


def fetch_toolchain(base: Base, directory: str, around: Surroundings) -> int:
    """Fill `directory` with a toolchain's reduced tree; returns the newest time in it.

    The name is ``BASE PACKAGE ...``.
    """
    name, *packages = base.name.split(" ") if not base.name.startswith("tar:") else [base.name]
    if name.startswith("tar:"):
        from boxwright.sources.unpack import unpack_tar

        unpack_tar(name.removeprefix("tar:").rpartition("@")[0], directory)
    elif name.split(":")[0] in ("debian", "ubuntu"):
        more = f"?packages={quote(','.join(packages), safe=',')}" if packages else ""
        make_base_system(base, name + more, directory, around)
    else:
        raise FetchError("base.not-yet", f"{name} can't be a toolchain", hint="debian:SUITE, ubuntu:SUITE or tar:FILE")
    reduce_tree(directory)
    return TIME


def fetch_debian(
    base: Base,
    directory: str,
    store: Store,
    outside: Outside,
    paths: Mapping[str, str],
    output: Callable[[bytes], None],
) -> int | None:
    """Fill `directory` with the files of a binary package ``NAME=VERSION``, without its scripts.

    `paths` say where files are below an archive's root, by SHA-256.
    """
    packages = Packages(store)
    if base.pinned is None:
        raise FetchError("source.fetch", f"{base.name} has no digest")
    path = provide_deb(packages, base.name, str(base.pinned), base.platform, outside, paths, output)
    unpack_binary(path, directory)
    return None


def provide_deb(
    packages: Packages,
    package: str,
    content: str,
    platform: str,
    outside: Outside,
    paths: Mapping[str, str],
    output: Callable[[bytes], None],
) -> str:
    """The path of the file of a binary package ``NAME=VERSION`` that has the digest `content`."""
    name, _, version = package.partition("=")
    sha256 = content.removeprefix("sha256:")
    path = paths.get(sha256) or packages.pin(f"pool {content}") or ""
    wanted = PoolFile(name, version, debian_architecture(platform), sha256, path)
    return provide_files(packages, outside, [wanted], own_distribution(), (), output)[sha256]
