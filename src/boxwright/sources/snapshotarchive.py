"""The distribution's archive of all its old versions, by its machine-readable interface.

As Debian's describes itself ("machine-usable interface"): ``/mr/binary/NAME/VERSION/binfiles`` and
``/mr/package/NAME/VERSION/srcfiles`` list files by SHA-1, ``/file/SHA1`` is the content. SHA-1 only finds a file: what
counts is the SHA-256 that is wanted.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request

from boxwright.errors import FetchError
from boxwright.sources.fetch import download, fetching

LARGEST_ANSWER = 4 << 20


def fetch_old(
    address: str, name: str, version: str, architecture: str, wanted: str, destination: str, timeout: float
) -> None:
    """Write the file of a package that has the SHA-256 `wanted` (hex) to `destination`.

    `architecture` is ``source`` for a file of a source package. Raises FetchError `source.fetch`, which says why.
    """
    place = address.rstrip("/")
    hashes = _hashes(place, name, version, architecture, timeout)
    for sha1 in hashes:
        if download(f"{place}/file/{sha1}", destination, timeout) == wanted:
            return
        os.unlink(destination)
    said = f"{len(hashes)} files of {name} {version}, none with sha256 {wanted}" if hashes else f"no {name} {version}"
    raise FetchError("source.fetch", f"{place} has {said}")


def _hashes(place: str, name: str, version: str, architecture: str, timeout: float) -> list[str]:
    package = f"{urllib.parse.quote(name, safe='')}/{urllib.parse.quote(version, safe='')}"
    listing = f"package/{package}/srcfiles" if architecture == "source" else f"binary/{package}/binfiles"
    url = f"{place}/mr/{listing}"
    with fetching(url), urllib.request.urlopen(url, timeout=timeout) as answer:  # noqa: S310 - from the configuration
        data = answer.read(LARGEST_ANSWER)
    try:
        found = [
            str(item["hash"])
            for item in json.loads(data)["result"]
            if architecture == "source" or item["architecture"] in (architecture, "all")
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise FetchError("source.fetch", f"{url} is no list of files: {error}") from error
    wrong = [sha1 for sha1 in found if len(sha1) != 40 or not sha1.isalnum()]
    if wrong:
        raise FetchError("source.fetch", f"{url} lists {wrong[0]!r}, which is no SHA-1")
    return found
