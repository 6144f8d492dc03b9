"""An SSH server's directory as a place, by OpenSSH's own sftp: the user's configuration, keys and agent count.

One sftp process is kept for a session. It is given many commands at a time and says what went wrong with each; a server
that only speaks SFTP is enough. A file is uploaded beside its place and renamed there by the old kind of rename, which
fails where something is (sftp-server makes it a link and an unlink).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress

from boxwright.errors import FetchError, MachineError
from boxwright.files import CHUNK
from boxwright.repositories.binary.place import Listed, MissingError, Upload, checked

PROMPT = "sftp> "
AT_A_TIME = 100
"""Commands: what they and their answers come to fits a pipe."""
INCOMING = "incoming"
_ADDRESS = re.compile(
    r"(?:ssh://)?(?:(?P<user>[^@/\s]+)@)?(?P<host>\[[0-9a-fA-F:]+\]|[^:/\s@-][^:/\s@]*)(?::(?P<port>\d+))?/(?P<path>.*)\Z"
)
_LISTED = re.compile(
    r"(?P<kind>.)\S+\s+\S+\s+\S+\s+\S+\s+(?P<size>\d+)\s+(?P<date>\w{3}\s+\d+\s+[\d:]+)\s+(?P<name>.*)\Z"
)
READABLE = 0o644


class SftpPlace:
    """Objects are files below ``[USER@]HOST[:PORT]/PATH``; ``/~/PATH`` counts from the user's home directory there."""

    distant = True
    loose = False

    def __init__(
        self, address: str, time_limit: float, environment: Mapping[str, str], options: Sequence[str] = ()
    ) -> None:
        match = _ADDRESS.match(address)
        if match is None or match["path"].startswith("-"):
            raise FetchError("repository.address", f"{address} is no place that ssh reaches", hint="USER@HOST/PATH")
        self.where = f"ssh://{address.removeprefix('ssh://')}".rstrip("/")
        path = match["path"].strip("/")
        self._top = path.removeprefix("~").lstrip("/") or "." if path.startswith("~") else f"/{path}"
        user = f"{match['user']}@" if match["user"] else ""
        self._command = [
            "sftp",
            "-q",
            "-b",
            "-",
            "-o",
            "BatchMode=yes",
            "-o",
            f"ConnectTimeout={max(1, round(time_limit))}",
        ]
        self._command += ["-o", f"ServerAliveInterval={max(1, round(time_limit / 3))}", "-o", "ServerAliveCountMax=3"]
        self._command += [*(["-P", match["port"]] if match["port"] else []), *options, f"{user}{match['host']}"]
        self._environment = {**environment, "LC_ALL": "C", "TZ": "UTC"}
        self._process: subprocess.Popen[str] | None = None
        self._guard = threading.RLock()
        self._made: set[str] = set()
        self._scratch = ""

    # The session ---------------------------------------------------------------------------------------------------

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            try:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="surrogateescape",
                    env=self._environment,
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                hint = "on Debian: apt install openssh-client"
                raise MachineError("machine.sftp", "the program sftp is not here", hint=hint) from error
            self._scratch = tempfile.mkdtemp(prefix="boxwright-sftp-")
        return self._process

    def _run(self, commands: Sequence[str]) -> list[list[str]]:
        """What each command says, which is nothing where all went well. Raises FetchError where the session ends."""
        answers: list[list[str]] = []
        with self._guard:
            for start in range(0, len(commands), AT_A_TIME):
                answers += self._run_some(commands[start : start + AT_A_TIME])
        return answers

    def _run_some(self, commands: Sequence[str]) -> list[list[str]]:
        process = self._started()
        if process.stdin is None or process.stdout is None:  # pragma: no cover - both are pipes
            raise self._lost([])
        mark = f"done-{os.urandom(8).hex()}"
        answers: list[list[str]] = []
        stray: list[str] = []
        try:
            process.stdin.write("".join(f"-{command}\n" for command in commands) + f"!echo {mark}\n")
            process.stdin.flush()
        except OSError:
            raise self._lost(stray) from None
        for line in process.stdout:
            text = line.rstrip("\r\n")
            if text == mark:
                return answers
            if text.startswith(f"{PROMPT}-"):
                answers.append([])
            elif not text.startswith(PROMPT):
                (answers[-1] if answers else stray).append(text)
        raise self._lost(stray + [text for answer in answers for text in answer])

    def _lost(self, said: Sequence[str]) -> FetchError:
        self.close()
        text = "; ".join(line for line in said[-5:] if line) or "the connection ended"
        hint = "does 'sftp' reach it? keys, names and jump hosts are those of your ssh configuration"
        return FetchError("repository.ssh", f"{self.where}: {text}", hint=hint)

    def _at(self, name: str) -> str:
        return f'"{self._top}/{name}"' if not set(self._top) & set('"\\') else self._refuse_path()

    def _refuse_path(self) -> str:
        raise FetchError("repository.address", f"{self.where}: quotes can't be in the path")

    # Writing -------------------------------------------------------------------------------------------------------

    def put(self, uploads: Sequence[Upload]) -> list[str]:
        """Put objects that are not there yet: all are uploaded, then those that arrived whole are renamed."""
        return self._upload(uploads, self._rename) if uploads else []

    def replace(self, upload: Upload) -> None:
        """Put an object by the new kind of rename, over what is there (OpenSSH's posix-rename)."""
        self._upload([upload], self._rename_over)

    def _upload(
        self, uploads: Sequence[Upload], give_names: Callable[[Sequence[Upload], Sequence[str]], list[str]]
    ) -> list[str]:
        with self._guard:
            self._started()
            self._make_directories({INCOMING, *(os.path.dirname(checked(it.name)) for it in uploads)})
            parts = [f"{INCOMING}/{os.urandom(12).hex()}" for _ in uploads]
            commands: list[str] = []
            with tempfile.TemporaryDirectory(dir=self._scratch) as staged:
                for number, (it, part) in enumerate(zip(uploads, parts, strict=True)):
                    commands.append(f'put "{self._staged(it, f"{staged}/{number}")}" {self._at(part)}')
                said = self._run(commands)
            try:
                self._check(said, "can't be uploaded")
                return give_names(uploads, parts)
            finally:
                with suppress(FetchError):
                    self._run([f"rm {self._at(part)}" for part in parts])

    def _staged(self, it: Upload, place: str) -> str:
        """A file with the object's bytes that anybody may read, since sftp gives the other the same mode."""
        if not it.path:
            with open(place, "wb") as file:
                file.write(it.data)
        elif os.stat(it.path).st_mode & READABLE == READABLE and not set(it.path) & set('"\\\n'):
            return it.path
        else:
            shutil.copyfile(it.path, place)
        os.chmod(place, READABLE)
        return place

    def _rename(self, uploads: Sequence[Upload], parts: Sequence[str]) -> list[str]:
        """Give uploaded files their names; returns the names of those that were there."""
        moves = [f"rename -l {self._at(part)} {self._at(it.name)}" for part, it in zip(parts, uploads, strict=True)]
        said = self._run(moves)
        failed = [it.name for it, answer in zip(uploads, said, strict=True) if answer]
        if not failed:
            return []
        there = self.present(failed)
        lost = [answer for it, answer in zip(uploads, said, strict=True) if answer and it.name not in there]
        self._check(lost, "can't be given its name")
        return failed

    def _rename_over(self, uploads: Sequence[Upload], parts: Sequence[str]) -> list[str]:
        moves = [f"rename {self._at(part)} {self._at(it.name)}" for part, it in zip(parts, uploads, strict=True)]
        self._check(self._run(moves), "can't be replaced")
        return []

    def _check(self, said: Sequence[Sequence[str]], what: str) -> None:
        for answer in said:
            if answer:
                hint = "is there space, and may this user write there?"
                raise FetchError("repository.upload", f"{self.where}: an object {what}: {'; '.join(answer)}", hint=hint)

    def _make_directories(self, directories: Collection[str]) -> None:
        wanted: set[str] = set()
        for directory in directories:
            parts = directory.split("/")
            wanted |= {"/".join(parts[: count + 1]) for count in range(len(parts))}
        missing = sorted(wanted - self._made)
        if not self._made:
            self._run([f"mkdir {self._at('')}"])
        # What is there already is no failure: a put into what is missing says so.
        self._run([f"mkdir {self._at(directory)}" for directory in missing])
        self._made |= wanted

    def delete(self, names: Collection[str]) -> None:
        """Remove objects."""
        for name, answer in zip(names, self._run([f"rm {self._at(checked(name))}" for name in names]), strict=True):
            if answer and self.present([name]):
                raise FetchError("repository.upload", f"{self.where}: {name} can't be removed: {'; '.join(answer)}")

    def sweep(self, before: int) -> int:
        """Remove what was half put before then (seconds since 1970); returns how many."""
        old = [item.name for item in self._listing(INCOMING, deep=False) if item.time < before]
        self._run([f"rm {self._at(name)}" for name in old])
        return len(old)

    # Reading -------------------------------------------------------------------------------------------------------

    def read(self, name: str, start: int = 0, size: int | None = None) -> Iterator[bytes]:
        """The object's bytes; sftp fetches whole files, so all of them come over."""
        with self._guard:
            self._started()
            descriptor, path = tempfile.mkstemp(dir=self._scratch)
            os.close(descriptor)
            try:
                (said,) = self._run([f'get {self._at(checked(name))} "{path}"'])
                if said:
                    if "not found" in said[0] or "No such file" in said[0]:
                        raise MissingError(self.where, name)
                    raise FetchError("repository.ssh", f"{self.where}: {name} can't be read: {'; '.join(said)}")
                file = open(path, "rb")  # noqa: SIM115 - closed below, by whoever reads
            finally:
                os.unlink(path)
        with file:
            file.seek(start)
            left = size
            while (left is None or left > 0) and (data := file.read(CHUNK if left is None else min(CHUNK, left))):
                left = None if left is None else left - len(data)
                yield data

    def present(self, names: Collection[str]) -> set[str]:
        """Those that are there: a listing of each directory of which several are asked for."""
        asked = list(names)
        said = self._run([f"ls -1 {self._at(checked(name))}" for name in asked])
        return {name for name, answer in zip(asked, said, strict=True) if answer and answer[0].endswith(f"/{name}")}

    def names(self, prefix: str) -> Iterator[Listed]:
        """Every object below `prefix`."""
        for item in self._listing(prefix.rstrip("/"), deep=True):
            if not item.name.startswith(f"{INCOMING}/"):
                yield item

    def _listing(self, directory: str, *, deep: bool) -> list[Listed]:
        """The files of a directory, of all below it where it is deep: a round of commands for each level."""
        found: list[Listed] = []
        level = [directory]
        while level:
            below: list[str] = []
            for inside, answer in zip(level, self._run([f"ls -ln {self._at(it)}" for it in level]), strict=True):
                for line in answer:
                    match = _LISTED.match(line)
                    if match is None:
                        continue
                    name = f"{inside}/{match['name'].rpartition('/')[2]}".lstrip("/")
                    if match["kind"] == "d":
                        below.append(name)
                    elif match["kind"] == "-":
                        found.append(Listed(name, int(match["size"]), _seconds(match["date"])))
            level = below if deep else []
        return found

    def close(self) -> None:
        """End the session."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(OSError):
                if process.stdin is not None:
                    process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = ""


def _seconds(date: str) -> int:
    """A listing's date (UTC): of the last half year with the time of day, else with the year."""
    now = time.gmtime()
    month, day, rest = date.split()
    if ":" not in rest:
        return int(_epoch(f"{month} {day} {rest} 00:00"))
    found = _epoch(f"{month} {day} {now.tm_year} {rest}")
    return int(found if found < time.time() + 86400 else _epoch(f"{month} {day} {now.tm_year - 1} {rest}"))


def _epoch(text: str) -> int:
    import calendar

    return calendar.timegm(time.strptime(text, "%b %d %Y %H:%M"))
