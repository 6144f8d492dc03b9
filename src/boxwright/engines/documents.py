"""What is remembered of a stack on this machine, for engines that run here: documents, networks, /etc/hosts, a lock."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from boxwright.errors import BoxwrightError
from boxwright.files import is_current, try_lock

POLL_SECONDS = 0.05
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class StackDirectory:
    """A directory for each stack, where `place` says; only its owner can look into it."""

    def __init__(self, place: Callable[[str], str]) -> None:
        self.place = place

    def lock(self, stack: str, patience: float) -> AbstractContextManager[None]:
        """Held while a stack is changed, waited for `patience` seconds. Raises BoxwrightError `deploy.busy`."""
        return self._held(stack, patience, ".lock", "changed")

    def copying(self, stack: str, patience: float) -> AbstractContextManager[None]:
        """The same, while its volumes are copied."""
        return self._held(stack, patience, ".copying", "copied")

    @contextmanager
    def _held(self, stack: str, patience: float, name: str, what: str) -> Iterator[None]:
        os.makedirs(self.place(stack), mode=0o700, exist_ok=True)
        path = f"{self.place(stack)}/{name}"
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + patience
            while not try_lock(held):
                if time.monotonic() >= deadline:
                    message = f"the stack {stack} is being {what} by another process"
                    raise BoxwrightError("deploy.busy", message, hint="wait until that one has ended")
                time.sleep(POLL_SECONDS)
            if not is_current(path, held):
                message = f"the stack {stack} was removed meanwhile, by another process"
                raise BoxwrightError("deploy.busy", message, hint="do it again, if it is still wanted")
            yield
        finally:
            os.close(held)

    def hosts(self, stack: str) -> str:
        """The file that instances see as /etc/hosts; it is made where it is missing."""
        path = f"{self.place(stack)}/hosts"
        if not os.path.exists(path):
            os.makedirs(self.place(stack), mode=0o700, exist_ok=True)
            with open(path, "w", encoding="ascii"):
                os.chmod(path, 0o644)
        return path

    def write_hosts(self, stack: str, text: str) -> None:
        """Write it in place: instances have this very file mounted."""
        with open(self.hosts(stack), "r+", encoding="ascii") as file:
            file.write(text)
            file.truncate()

    def read(self, stack: str, name: str) -> bytes | None:
        """A document."""
        with suppress(FileNotFoundError), open(self._document(stack, name), "rb") as file:
            return file.read()
        return None

    def write(self, stack: str, name: str, data: bytes | None) -> None:
        """Keep a document, whole or not at all; None removes it."""
        path = self._document(stack, name)
        if data is None:
            with suppress(FileNotFoundError):
                os.unlink(path)
            return
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        temporary = f"{path}.{os.getpid()}.new"
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        os.rename(temporary, path)

    def names(self, stack: str) -> tuple[str, ...]:
        """The names of a stack's documents."""
        with suppress(FileNotFoundError):
            return tuple(sorted(os.listdir(f"{self.place(stack)}/documents")))
        return ()

    def forget(self, stack: str) -> None:
        """Remove all of it."""
        shutil.rmtree(self.place(stack), ignore_errors=True)

    def _document(self, stack: str, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(name)
        return f"{self.place(stack)}/documents/{name}"
