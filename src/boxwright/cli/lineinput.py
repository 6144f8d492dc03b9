"""Lines from a person: with history and completion by readline, or plainly where the terminal can't do that."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress

from boxwright.errors import BoxwrightError, UsageError

LONGEST_HISTORY = 1000
EDITORS = ("VISUAL", "EDITOR")


def _plain_line() -> str:
    """A line of standard input, and no byte more: what follows may be a shell's. Raises EOFError."""
    found = b""
    while not found.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            if not found:
                raise EOFError
            break
        found += byte
    return found.decode("utf-8", "replace").rstrip("\r\n")


class Lines:
    """Reads lines. `complete` gives the words that may follow what was typed so far (before the word, the word)."""

    def __init__(self, environment: Mapping[str, str], history: str, complete: Callable[[str, str], list[str]]) -> None:
        self._environment = environment
        self._history = history
        self._complete = complete
        self._found: list[str] = []
        self._preset = ""
        dumb = environment.get("TERM", "dumb") in ("dumb", "")
        self.is_rich = not dumb and sys.stdin.isatty() and sys.stdout.isatty() and self._prepare()

    def _prepare(self) -> bool:
        try:
            import readline
        except ImportError:
            return False
        readline.set_completer(self._completed)
        readline.set_completer_delims(" \t")
        readline.parse_and_bind("tab: complete")
        readline.parse_and_bind("set enable-bracketed-paste off")
        readline.set_auto_history(False)
        readline.set_history_length(LONGEST_HISTORY)
        readline.set_startup_hook(self._insert)
        with suppress(OSError):
            readline.read_history_file(self._history)
        return True

    def _insert(self) -> None:
        import readline

        readline.insert_text(self._preset)

    def _completed(self, word: str, number: int) -> str | None:
        import readline

        if number == 0:
            before = readline.get_line_buffer()[: readline.get_begidx()]
            try:
                self._found = self._complete(before, word)
            except (BoxwrightError, OSError):  # such as a directory that can't be read
                self._found = []
        return self._found[number] if number < len(self._found) else None

    def read(self, prompt: str, preset: str = "") -> str:
        """The next line. Raises EOFError at the end, and KeyboardInterrupt.

        Where nothing can be put into the line, `preset` is shown, and an empty line means it.
        """
        if not self.is_rich:
            if preset:
                sys.stderr.write(f"{preset}\n")
            sys.stderr.write(prompt)
            sys.stderr.flush()
            return _plain_line() or preset
        self._preset = preset
        try:
            line = input(prompt)
        finally:
            self._preset = ""
        self._remember(line)
        return line

    def _remember(self, line: str) -> None:
        """As shells do: nothing twice in a row, and nothing that begins with a space."""
        import readline

        last = readline.get_history_item(readline.get_current_history_length())
        if line.strip() and not line.startswith(" ") and line != last:
            readline.add_history(line)

    def close(self) -> None:
        """Write the history; a place that can't be written is no reason to fail."""
        if not self.is_rich:
            return
        import readline

        with suppress(OSError):
            os.makedirs(os.path.dirname(self._history), mode=0o700, exist_ok=True)
            readline.write_history_file(self._history)
            os.chmod(self._history, 0o600)

    def edited(self, text: str) -> str:
        """A text as the user's editor leaves it. Raises UsageError `interactive.editor`."""
        program = next((self._environment[name] for name in EDITORS if self._environment.get(name)), "vi")
        with tempfile.NamedTemporaryFile("w", suffix=".sh", prefix="boxwright-", encoding="utf-8") as file:
            end = "" if text.endswith("\n") else "\n"
            file.write(text + end)
            file.flush()
            try:
                status = subprocess.run(
                    ["/bin/sh", "-c", f'exec {program} "$1"', "sh", file.name], check=False
                ).returncode
            except OSError as error:
                raise UsageError("interactive.editor", f"/bin/sh can't be started: {error.strerror}") from error
            if status:
                hint = "set EDITOR, or write the text behind `edit N`"
                raise UsageError("interactive.editor", f"{program} ended with {status}: nothing changed", hint=hint)
            with open(file.name, encoding="utf-8") as written:  # an editor may have put another file there
                return written.read().removesuffix(end)
