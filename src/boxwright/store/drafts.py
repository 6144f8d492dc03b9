"""Places for new layers, in a directory of this process's own below ``work/``.

A place is used again. What an overlay leaves in it costs half a millisecond to remove, which a thread of its own does
while the next step runs.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from boxwright.model.change import Draft
from boxwright.store.home import Home, unusable
from boxwright.store.locks import abandoned, hold

if TYPE_CHECKING:
    from queue import SimpleQueue

OVERLAY_LEFTOVERS = ("work/incompat/volatile", "work/incompat", "work")


class Drafts:
    """The places of one process. Safe for threads."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._own = f"{home.work}/{os.getpid()}"
        self._guard = threading.Lock()
        self._held: int | None = None
        self._counter = 0
        self._free: list[Draft] = []
        self._used: SimpleQueue[Draft | None] | None = None
        self._cleaner: threading.Thread | None = None

    def take(self) -> Draft:
        """A place with an empty work directory and no upper one. Raises StoreError."""
        with self._guard:
            if self._held is None:
                self._claim()
            if self._free:
                return self._free.pop()
            self._counter += 1
            directory = f"{self._own}/{self._counter}"
        try:
            os.mkdir(directory, 0o711)
            os.mkdir(f"{directory}/work", 0o700)
        except OSError as error:
            raise unusable(self._home.root, error) from error
        return Draft(directory, f"{directory}/upper", f"{directory}/work")

    def scratch(self) -> str:
        """A new empty directory that goes with this process's own. Raises StoreError."""
        with self._guard:
            if self._held is None:
                self._claim()
            self._counter += 1
            directory = f"{self._own}/scratch-{self._counter}"
        try:
            os.mkdir(directory, 0o700)
        except OSError as error:
            raise unusable(self._home.root, error) from error
        return directory

    def give_back(self, draft: Draft) -> None:
        """What is left in it goes."""
        if not os.path.lexists(draft.upper) and not os.listdir(draft.work):
            with self._guard:
                self._free.append(draft)
            return
        with self._guard:
            if self._used is None:
                self._used = self._cleaned()
        self._used.put(draft)

    def aside(self, name: str) -> str:
        """A path for something that is to go with this process's directory."""
        return f"{self._own}/orphan-{name}"

    def close(self) -> None:
        """Remove everything that is left."""
        if self._used is not None and self._cleaner is not None:
            self._used.put(None)
            self._cleaner.join()
            self._used = self._cleaner = None
        if self._held is not None:
            _remove(self._own)
            os.close(self._held)
            self._held = None

    def _cleaned(self) -> SimpleQueue[Draft | None]:
        """The queue of a new thread."""
        from queue import SimpleQueue

        used: SimpleQueue[Draft | None] = SimpleQueue()
        self._cleaner = threading.Thread(target=self._clean, args=(used,), daemon=True)
        self._cleaner.start()
        return used

    def _clean(self, used: SimpleQueue[Draft | None]) -> None:
        while draft := used.get():
            _remove_upper(draft.upper)
            if _emptied(draft.work):
                with self._guard:
                    self._free.append(draft)
            else:
                _remove(draft.directory)

    def _claim(self) -> None:
        """Take a directory of this process's own, and remove those of processes that ended before they were done."""
        try:
            self._held = hold(f"{self._own}.lock")
            _remove(self._own)
            os.mkdir(self._own, 0o711)
            for name in os.listdir(self._home.work):
                lock = f"{self._home.work}/{name}"
                if not name.endswith(".lock") or lock == f"{self._own}.lock":
                    continue
                with abandoned(lock) as is_abandoned:
                    if is_abandoned:
                        _remove(lock.removesuffix(".lock"))
        except OSError as error:
            raise unusable(self._home.root, error) from error


def _emptied(work: str) -> bool:
    """Take from an overlay's work directory what the kernel leaves there, and refuses to see again."""
    try:
        if os.path.lexists(f"{work}/work/incompat/volatile/dirty"):
            os.unlink(f"{work}/work/incompat/volatile/dirty")
        for name in OVERLAY_LEFTOVERS:
            if os.path.lexists(f"{work}/{name}"):
                os.rmdir(f"{work}/{name}")
        return not os.listdir(work)
    except OSError:
        return False


def _remove_upper(upper: str) -> None:
    """Remove what was not committed, which is often nothing."""
    try:
        os.rmdir(upper)
    except FileNotFoundError:
        return
    except OSError:
        _remove(upper)


def _remove(directory: str) -> None:
    """Remove a tree as far as that goes: what is left is removed with the next process's claim."""
    import shutil

    shutil.rmtree(directory, ignore_errors=True)
