"""Files of a distribution by what they are: from any mirror that still has them, else from the archive of old versions.

Nothing is asked of an archive's indexes: a file's place and its SHA-256 are known. apt's own downloader fetches, with
the machine's proxies and credentials.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from boxwright.errors import FetchError
from boxwright.files import hash_file
from boxwright.model.giturl import redacted
from boxwright.sources.process import run_program
from boxwright.sources.snapshotarchive import fetch_old

Output = Callable[[bytes], None]
AT_ONCE = 4
BATCH = 200
HELPER = "/usr/lib/apt/apt-helper"


class PoolFile(NamedTuple):
    """A file of a package. `architecture` is ``source`` for a source package's; `path` is below an archive's root."""

    name: str
    version: str
    architecture: str
    sha256: str
    path: str = ""


def fetch_pool(
    wanted: Sequence[PoolFile],
    places: Sequence[str],
    snapshot: str,
    directory: str,
    output: Output,
    timeout: float,
) -> dict[str, str]:
    """Fetch files to `directory`; returns their paths by SHA-256. `places` are archives' roots, the first one first.

    Raises FetchError `source.fetch` that names every place that was tried for each file that can't be had.
    """
    missing = {file.sha256: file for file in wanted}
    found: dict[str, str] = {}
    tried: dict[str, list[str]] = {sha256: [] for sha256 in missing}
    for place in places:
        located = [file for file in missing.values() if file.path]
        for start in range(0, len(located), BATCH):
            said = _fetch_batch(place.rstrip("/"), located[start : start + BATCH], directory, output, timeout)
            for sha256, failure in said.items():
                if failure:
                    tried[sha256].append(failure)
                else:
                    found[sha256] = f"{directory}/{sha256}"
                    del missing[sha256]
    if missing and snapshot:
        _from_snapshot(snapshot, missing, directory, output, timeout, found, tried)
    if missing:
        raise _nowhere(missing, tried)
    return found


def _fetch_batch(
    place: str, files: Sequence[PoolFile], directory: str, output: Output, timeout: float
) -> dict[str, str]:
    """For each file why it can't be had there, or nothing where it was fetched."""
    words: list[str] = []
    for file in files:
        words += [f"{place}/{file.path}", f"{directory}/{file.sha256}", f"SHA256:{file.sha256}"]
    seconds = str(max(1, int(timeout)))
    options = ["APT::Sandbox::User=root", f"Acquire::http::Timeout={seconds}", f"Acquire::https::Timeout={seconds}"]
    argv = [HELPER, "-q", *(word for option in options for word in ("-o", option)), "download-file", *words]
    heard: list[bytes] = []

    def listen(data: bytes) -> None:
        heard.append(data)
        output(data)

    run_program(argv, package="apt", output=listen)
    text = b"".join(heard).decode("utf-8", "replace")
    failures = dict(re.findall(r"^E: Failed to fetch (\S+)\s+(.*)$", text, re.MULTILINE))
    result: dict[str, str] = {}
    for file in files:
        path = f"{directory}/{file.sha256}"
        if os.path.exists(path) and hash_file(path) == file.sha256:
            result[file.sha256] = ""
            continue
        url = f"{place}/{file.path}"
        reason = next((said for at, said in failures.items() if at.replace("%7e", "~").replace("%2b", "+") == url), "")
        result[file.sha256] = redacted(f"{url}: {reason.strip() or 'can not be fetched'}")
    return result


def _from_snapshot(
    snapshot: str,
    missing: dict[str, PoolFile],
    directory: str,
    output: Output,
    timeout: float,
    found: dict[str, str],
    tried: dict[str, list[str]],
) -> None:
    def fetch(file: PoolFile) -> str:
        path = f"{directory}/{file.sha256}"
        try:
            fetch_old(snapshot, file.name, file.version, file.architecture, file.sha256, path, timeout)
        except FetchError as error:
            return error.message
        output(f"{file.name} {file.version} from {snapshot}\n".encode())
        return ""

    files = list(missing.values())
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for file, failure in zip(files, threads.map(fetch, files), strict=True):
            if failure:
                tried[file.sha256].append(failure)
            else:
                found[file.sha256] = f"{directory}/{file.sha256}"
                del missing[file.sha256]


def _nowhere(missing: dict[str, PoolFile], tried: dict[str, list[str]]) -> FetchError:
    lines = []
    for sha256, file in list(missing.items())[:10]:
        said = "; ".join(tried[sha256]) or "no place to fetch it from is known"
        lines.append(f"{file.name} {file.version} ({file.architecture}): {said}")
    more = f"\n  and {len(missing) - 10} more" if len(missing) > 10 else ""
    return FetchError(
        "source.fetch",
        "packages of the distribution can't be had:\n  " + "\n  ".join(lines) + more,
        hint="name a mirror that has them: `mirrors:` with `debian` and `debian-snapshot` in .boxwright-config.yaml",
    )
