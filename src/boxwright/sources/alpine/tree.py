"""The tree that packages are unpacked into, one after the other, and what each of them brought."""

from __future__ import annotations

import fnmatch
import io
import os
from collections.abc import Callable
from contextlib import suppress

from boxwright.sources import tarmembers as tar
from boxwright.sources.alpine.archive import Archive
from boxwright.sources.alpine.database import Contents
from boxwright.sources.alpine.scripts import run_script
from boxwright.sources.confined import Confined, Parts, parts_of
from boxwright.sources.unpack import unpack_tar


class Tree:
    """A root directory, the packages in it, and the package that each path belongs to."""

    def __init__(self, root: str, output: Callable[[bytes], None], cancelled: Callable[[], bool]) -> None:
        self.root = root
        self.installed: list[Contents] = []
        self._owners: dict[str, Contents] = {}
        self._output = output
        self._cancelled = cancelled

    def install(self, archive: Archive, path: str) -> None:
        """Unpack the package whose checked file is at `path`, its scripts before and after it."""
        contents = Contents(archive)
        self._script(archive, "pre-install", [archive.package.version])
        users, groups = self._numbers("passwd"), self._numbers("group")

        def adapt(member: tar.Member) -> tar.Member | None:
            parts = parts_of(member.name)
            if parts and parts[0].startswith(b"."):
                return None  # the format keeps such names for itself
            numbered = member._replace(
                uid=users.get(member.owner, member.uid), gid=groups.get(member.group, member.gid)
            )
            if parts:
                self._note(contents, os.fsdecode(b"/".join(parts)), numbered)
            return numbered

        with open(path, "rb", buffering=0) as file:
            file.seek(archive.data_start)
            unpack_tar(file, self.root, adapt=adapt)
        self.installed.append(contents)
        self._script(archive, "post-install", [archive.package.version])

    def _note(self, contents: Contents, path: str, member: tar.Member) -> None:
        contents.add(path, member)
        if member.kind != tar.DIRECTORY:
            before = self._owners.get(path)
            if before is not None and before is not contents:
                before.forget(path)
            self._owners[path] = contents

    def run_triggers(self) -> None:
        """Run the triggers, each with the directories there that it asks for."""
        there = sorted({f"/{directory}" for contents in self.installed for directory in contents.directories})
        for contents in self.installed:
            wanted = contents.archive.triggers
            found = [name for name in there if any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted)]
            if found:
                self._script(contents.archive, "trigger", found)

    def _script(self, archive: Archive, kind: str, arguments: list[str]) -> None:
        script = archive.scripts.get(kind)
        if script is not None:
            title = f"{archive.package}.{kind}"
            self._output(f"Executing {title}\n".encode())
            run_script(self.root, title, script, arguments, self._output, self._cancelled)

    def write(self, archive: bytes) -> None:
        """Unpack a tar of ours."""
        unpack_tar(io.BytesIO(archive), self.root)

    def read(self, path: str) -> bytes:
        """The bytes of a file of the tree, empty where it isn't there; no link leads out of the tree."""
        parts = tuple(path.encode().split(b"/"))
        confined = Confined(self.root, _always, _untold)
        try:
            directory = confined.enter(parts[:-1], make=False)
            with suppress(OSError):
                if directory is not None:
                    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                    with open(os.open(parts[-1], flags, dir_fd=directory), "rb") as file:
                        return file.read()
            return b""
        finally:
            confined.close()

    def has(self, path: str) -> bool:
        """Whether a package brought that file."""
        return path in self._owners

    def _numbers(self, file: str) -> dict[bytes, int]:
        """Names and numbers of /etc/passwd or /etc/group there: what an archive names goes by its name."""
        lines = [line.split(b":") for line in self.read(f"etc/{file}").splitlines()]
        return {fields[0]: int(fields[2]) for fields in lines if len(fields) > 2 and fields[2].isdigit()}


def _always(path: Parts) -> bool:
    """Links are followed, as chroot(2) would."""
    return bool(path)


def _untold(descriptor: int, path: Parts, made: bool) -> None:  # noqa: FBT001 - called by position
    """Hear of a directory that is only read from."""
