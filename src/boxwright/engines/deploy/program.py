"""An engine's own program: how it is called, and what its failures mean."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from boxwright.errors import BoxwrightError, MachineError

SECONDS = 600.0
_GONE = re.compile(
    r"no such (container|volume|network|image|object)\b|no (container|volume) with\b|\bnetwork( \S+)? not found"
    r"|image not known|\bno (container|volume) found"
)
_REMARKS = ("time=", "warn", "flag --", "exit status")
"""How lines begin that tell of no failure, or of none besides."""
PACKAGES = {"podman": "podman", "docker": "docker.io", "lxc-start": "lxc"}


class Program:
    """A program of an engine. Raises MachineError `deploy.engine-missing` where it is not there."""

    def __init__(self, name: str) -> None:
        found = shutil.which(name)
        if found is None:
            hint = f"apt-get install {PACKAGES.get(name, name)}"
            raise MachineError("deploy.engine-missing", f"the program {name} is missing", hint=hint)
        self.name = name
        self.path = found

    def __call__(self, *words: str, check: bool = True, timeout: float = SECONDS) -> str:
        """What it writes. Raises BoxwrightError `deploy.engine-failed` where `check` and it fails."""
        done = self.run(words, timeout=timeout)
        if check and done.returncode:
            raise self._failed(words, done)
        return done.stdout.decode(errors="replace")

    def run(
        self,
        words: Sequence[str],
        *,
        timeout: float = SECONDS,
        stdin: bytes = b"",
    ) -> subprocess.CompletedProcess[bytes]:
        """The finished process."""
        try:
            return subprocess.run(
                [self.path, *words],
                input=stdin,
                capture_output=True,
                check=False,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as error:
            message = f"'{self.name} {words[0]}' did not end within {timeout:.0f} s"
            raise BoxwrightError("deploy.engine-failed", message) from error

    def objects(self, *words: str) -> list[dict[str, Any]]:
        """What it writes as a JSON array; what is not there is left out, and nothing else.

        Raises BoxwrightError `deploy.engine-failed`.
        """
        done = self.run(words)
        if done.returncode and not says_gone(done.stderr):
            raise self._failed(words, done)
        try:
            found = json.loads(done.stdout or b"[]")
        except ValueError as error:
            raise self._failed(words, done, "what it writes is no JSON") from error
        return [it for it in found if isinstance(it, dict)] if isinstance(found, list) else []

    def _failed(self, words: Sequence[str], done: subprocess.CompletedProcess[bytes], why: str = "") -> BoxwrightError:
        said = why or done.stderr.decode(errors="replace").strip() or f"status {done.returncode}"
        return BoxwrightError("deploy.engine-failed", f"'{' '.join((self.name, *words[:2]))}' failed: {said}")


def says_gone(stderr: bytes) -> bool:
    """Whether a program failed for nothing but that what was named is not there, as podman and docker say it."""
    lines = [it.strip().lower() for it in stderr.decode(errors="replace").splitlines()]
    problems = [it for it in lines if it and not it.startswith(_REMARKS)]
    return bool(problems) and all(_GONE.search(it) for it in problems)
