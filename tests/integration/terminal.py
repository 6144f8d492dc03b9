"""A person at a terminal: a pseudo-terminal with a program on it, what is typed and what is seen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import PROGRAM, Program

PATIENCE = 60.0
RESTS = 10
ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[()][A-Z0-9]|\x1b[=>]|\a")


class Terminal:
    """The program's terminal. `seen` is all that stood on it, without escape sequences and carriage returns."""

    def __init__(self, control: int, process: subprocess.Popen[bytes]) -> None:
        self._control = control
        self.process = process
        self.seen = ""
        self._from = 0

    def type(self, text: str) -> None:
        """Press these keys."""
        os.write(self._control, text.encode())

    def line(self, text: str) -> None:
        """Type a line."""
        self.type(f"{text}\r")

    def await_text(self, pattern: str) -> str:
        """Wait for what matches, after what was awaited before; returns what was seen meanwhile."""
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.seen[self._from :])) is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"never seen: {pattern}\n{self.seen}")
            if not self._read():
                raise AssertionError(f"ended before it was seen: {pattern}\n{self.seen}")
        start, self._from = self._from, self._from + found.end()
        return self.seen[start : self._from]

    def command(self, text: str, prompt: str = r"boxwright \S+> ") -> str:
        """Type a line at the prompt and wait for the next one; returns what was seen."""
        self.line(text)
        return self.await_text(prompt)

    def await_rest(self) -> None:
        """Wait until the program waits for keys: it slept whenever it was looked at for a while."""
        deadline = time.monotonic() + PATIENCE
        asleep = 0
        while asleep < RESTS:
            if time.monotonic() > deadline:
                raise AssertionError(f"never at rest\n{self.seen}")
            time.sleep(0.02)
            state = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
            asleep = asleep + 1 if state == "S" else 0

    def end(self) -> int:
        """Wait until the program ended; its exit status."""
        while self._read():
            pass
        return self.process.wait(PATIENCE)

    def _read(self) -> bool:
        if not select.select([self._control], [], [], 0.2)[0]:
            return True
        try:
            data = os.read(self._control, 4096)
        except OSError:  # nobody has the terminal any more (pty(7))
            return False
        self.seen += ESCAPES.sub(b"", data).decode(errors="replace").replace("\r", "")
        return bool(data)


@contextmanager
def terminal_of(program: Program, *arguments: str | Path, cwd: Path | None = None) -> Iterator[Terminal]:
    """Start the program on a terminal; it is killed where the test leaves it running."""
    control, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
    process = subprocess.Popen(
        [PROGRAM, *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=cwd,
        env={"TERM": "xterm"} | program.whole_environment(),
        user=program.user or None,
        group=program.user or None,
        extra_groups=[] if program.user else None,
        preexec_fn=_own_terminal,  # noqa: PLW1509 - a terminal is taken by the process itself, and tests have no threads
    )
    os.close(terminal)
    try:
        yield Terminal(control, process)
    finally:
        process.kill()
        process.wait()
        os.close(control)


def _own_terminal() -> None:
    """A session whose terminal it is: Ctrl-C is a signal there."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
