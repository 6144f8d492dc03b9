"""What differs between two archives, and what in one of them only a clock can have said."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import zstandard

MOST_LINES = 20


def contents(archive: str) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Each member of a package's archive with its bytes."""
    with Path(archive).open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        data = io.BytesIO(stream.read())
    with tarfile.open(fileobj=data) as tar:
        for member in tar:
            opened = tar.extractfile(member) if member.isreg() else None
            yield member, opened.read() if opened else b""


def members(archive: str) -> dict[str, str]:
    """What each member of a package's archive is, by one line."""
    found = {}
    for member, data in contents(archive):
        digest = hashlib.sha256(data).hexdigest()
        owner = f"{member.uid}:{member.gid}"
        found[member.name] = f"{member.type!r} {member.mode:04o} {owner} {member.mtime} {member.linkname} {digest}"
    return found


def differences(one: str, other: str) -> list[str]:
    """The members that differ; by diffoscope, where that is installed, also how."""
    before, after = members(one), members(other)
    lines = [name for name in sorted(before | after) if before.get(name) != after.get(name)][:MOST_LINES]
    if shutil.which("diffoscope"):
        words = ["diffoscope", "--max-text-report-size", "20000", one, other]
        lines += subprocess.run(words, capture_output=True, text=True, check=False).stdout.splitlines()
    return lines


def dated(archive: str, moments: tuple[float, ...]) -> list[str]:
    """Members that hold the day of a build: a clock was read, and only the day was too short to show it."""
    needles = {
        time.strftime(form, time.gmtime(moment)).encode()
        for moment in moments
        for form in ("%Y-%m-%d", "%b %e %Y", "%b %d %Y", "%e %b %Y", "%d %b %Y", "%d %B %Y", "%B %d, %Y", "%Y/%m/%d")
    }
    return [member.name for member, data in contents(archive) if any(needle in data for needle in needles)]
