"""An engine's own program: how it is called, and what its failures mean."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from boxwright.errors import BoxwrightError, MachineError

SECONDS = 600.0
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
            said = done.stderr.decode(errors="replace").strip() or f"status {done.returncode}"
            shown = " ".join((self.name, *words[:2]))
            raise BoxwrightError("deploy.engine-failed", f"'{shown}' failed: {said}")
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
        """What it writes as a JSON array; what is not there is left out."""
        text = self(*words, check=False)
        try:
            found = json.loads(text or "[]")
        except ValueError:
            return []
        return [it for it in found if isinstance(it, dict)] if isinstance(found, list) else []
