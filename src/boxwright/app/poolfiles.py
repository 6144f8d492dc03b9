"""Files of the distribution's packages by digest: from the store, else from mirrors and the archive of old versions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from boxwright.app.outside import Outside
from boxwright.sources.aptsources import parse_one_line, read_sources
from boxwright.sources.pool import PoolFile, fetch_pool
from boxwright.steps.package import remove
from boxwright.store.packages import Packages


def provide_files(
    packages: Packages,
    outside: Outside,
    wanted: Sequence[PoolFile],
    distribution: str,
    sources: Iterable[str],
    output: Callable[[bytes], None],
) -> dict[str, str]:
    """The paths of files in the store, by SHA-256; what isn't there is fetched and kept.

    `sources` are the lines of sources.list that they once came from. Raises FetchError.
    """
    found = {file.sha256: path for file in wanted if (path := packages.blob(file.sha256))}
    missing = [file for file in wanted if file.sha256 not in found]
    if not missing:
        return found
    outside.require(f"{missing[0].name} {missing[0].version}")
    places = archive_roots(distribution, outside, sources)
    snapshot = outside.snapshot if distribution == "debian" else ""
    with packages.adding() as part:
        directory = f"{part}.d"
        os.makedirs(directory)
        try:
            fetched = fetch_pool(missing, places, snapshot, directory, output, outside.timeout)
            for sha256, path in fetched.items():
                packages.add(path, f"sha256:{sha256}")
                found[sha256] = packages.blob(sha256) or path
        finally:
            remove(directory)
    return found


def archive_roots(distribution: str, outside: Outside, sources: Iterable[str]) -> tuple[str, ...]:
    """Where a distribution's archives are: the mirror that was named, else this machine's and those of `sources`."""
    named = outside.mirror_of(distribution)
    if named:
        return (named.rstrip("/"),)
    signed = f"/usr/share/keyrings/{distribution}-"
    own = [
        source.uri for source in read_sources(Path("/etc/apt")) if not source.signed_by or signed in source.signed_by
    ]
    once = [source.uri for line in sources for source in parse_one_line(line)]
    given = own if distribution == own_distribution() else ()
    return tuple(dict.fromkeys(uri for uri in (*given, *once) if uri.startswith(("http://", "https://"))))


def own_distribution() -> str:
    """Of this machine (os-release(5))."""
    try:
        lines = Path("/etc/os-release").read_text("utf-8").splitlines()
    except OSError:
        return ""
    return next((line[3:].strip('"') for line in lines if line.startswith("ID=")), "")
