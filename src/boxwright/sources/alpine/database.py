"""What Alpine's package manager knows of an installed tree: its database of packages (apk(8), "FILES")."""

from __future__ import annotations

import io
import re
import tarfile
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence

from boxwright.sources import tarmembers as tar
from boxwright.sources.alpine.archive import Archive, link_checksum

_COPIED = "CPVASITULomtcDp"
_SHA1 = re.compile(r"[0-9a-f]{40}")
_CHECKSUM = b"APK-TOOLS.checksum.SHA1"


class Contents:
    """The directories and files that one package brought."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self._directories: dict[str, str] = {}
        self._files: dict[str, str] = {}

    def add(self, path: str, member: tar.Member) -> None:
        """A member that is unpacked at `path`."""
        rights = f"{member.uid}:{member.gid}:{member.mode:o}"
        if member.kind == tar.DIRECTORY:
            self._directories[path] = "" if rights == "0:0:755" else f"M:{rights}\n"
            return
        self._directories.setdefault(path.rpartition("/")[0], "")
        line = "" if rights == "0:0:644" or member.kind == tar.SYMLINK else f"a:{rights}\n"
        checksum = member.records.get(_CHECKSUM, b"").decode("ascii", "replace")
        if member.kind == tar.SYMLINK:
            line += f"Z:{link_checksum(member.link)}\n"
        elif _SHA1.fullmatch(checksum):
            line += f"Z:Q1{b64encode(bytes.fromhex(checksum)).decode()}\n"
        self._files[path] = line

    def forget(self, path: str) -> None:
        """Another package brought its own file there."""
        self._files.pop(path, None)

    @property
    def directories(self) -> Iterable[str]:
        """Where it has something, without a leading slash."""
        return self._directories

    @property
    def files(self) -> Iterable[str]:
        """Its files, without a leading slash."""
        return self._files

    def record(self) -> str:
        """Its record in the database."""
        fields = self.archive.package.fields
        lines = [f"{letter}:{fields[letter]}\n" for letter in _COPIED if letter in fields]
        lines += [f"r:{self.archive.replaces}\n"] if self.archive.replaces else []
        below: dict[str, list[str]] = {directory: [] for directory in sorted(self._directories)}
        for path in sorted(self._files):
            below[path.rpartition("/")[0]].append(path)
        for directory, paths in below.items():
            lines.append(f"F:{directory}\n{self._directories[directory]}")
            lines += [f"R:{path.rpartition('/')[2]}\n{self._files[path]}" for path in paths]
        return "".join(lines) + "\n"


def database(installed: Sequence[Contents]) -> dict[str, bytes]:
    """The files below lib/apk/db."""
    triggers = "".join(
        f"{contents.archive.package.checksum} {' '.join(contents.archive.triggers)}\n"
        for contents in installed
        if contents.archive.triggers
    )
    scripts = {
        f"{archive.package}.{archive.package.checksum}.{name}": script
        for archive in (contents.archive for contents in installed)
        for name, script in archive.scripts.items()
    }
    return {
        "lib/apk/db/installed": "".join(contents.record() for contents in installed).encode(),
        "lib/apk/db/scripts.tar": make_tar({}, scripts, {}, 0),
        "lib/apk/db/triggers": triggers.encode(),
        "lib/apk/db/lock": b"",
    }


def make_tar(directories: Mapping[str, int], files: Mapping[str, bytes], links: Mapping[str, str], time: int) -> bytes:
    """A tar of root's own: directories with their modes, files (scripts can be executed), symbolic links."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, mode in directories.items():
            archive.addfile(_member(name, tarfile.DIRTYPE, mode, time))
        for name, data in files.items():
            member = _member(name, tarfile.REGTYPE, 0o755 if data.startswith(b"#!") else 0o644, time)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, target in links.items():
            member = _member(name, tarfile.SYMTYPE, 0o777, time)
            member.linkname = target
            archive.addfile(member)
    return stream.getvalue()


def _member(name: str, kind: bytes, mode: int, time: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.mtime = kind, mode, time
    return member
