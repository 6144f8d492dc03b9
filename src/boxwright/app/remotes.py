"""What ADD fetches: what is at an address now, and its content, asked for as seldom as that goes.

What a server said of a file is remembered, so that a file which did not change isn't sent again. Content that came
before its step runs waits in the cache, named by its digest.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from boxwright.errors import BoxwrightError, FetchError
from boxwright.model.digest import Digest, hex_of
from boxwright.model.giturl import redacted
from boxwright.model.keys import key_of
from boxwright.model.step import Fetch
from boxwright.steps.fetch import fetch_fields
from boxwright.store.store import Store

if TYPE_CHECKING:
    from boxwright.sources.http import Download, Validators

AT_ONCE = 8
PATIENCE_SECONDS = 1.0
WAITING_SECONDS = 24 * 3600
CONTENT = "content"
"""The name of a fetched file in its tree."""


class Remotes:
    """Reaches web servers and repositories for one build."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[Fetch, str | BoxwrightError] = {}
        self._guard = threading.Lock()
        self._stop = threading.Event()

    def identify_all(self, steps: Iterable[Fetch]) -> None:
        """Ask for all at once. What fails says so when its own identity is wanted."""
        wanted = deque(dict.fromkeys(steps))
        count = min(len(wanted), AT_ONCE)
        if count < 2:
            return
        # Daemons: an interrupted build doesn't wait for a server that hangs.
        threads = [threading.Thread(target=self._note_each, args=(wanted,), daemon=True) for _ in range(count)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException:
            self._stop.set()
            for thread in threads:
                if thread.is_alive():
                    thread.join(PATIENCE_SECONDS)
            raise

    def _note_each(self, wanted: deque[Fetch]) -> None:
        while not self._stop.is_set():
            try:
                step = wanted.popleft()
            except IndexError:
                return
            self._note(step)

    def identify(self, step: Fetch) -> str:
        """The digest of a file, or the name of a commit. Raises FetchError."""
        if step not in self._known:
            self._note(step)
        known = self._known[step]
        if isinstance(known, BoxwrightError):
            raise known
        return known

    def _note(self, step: Fetch) -> None:
        known: str | BoxwrightError
        try:
            known = self._commit(step) if step.kind == "git" else self._digest(step)
        except BoxwrightError as error:
            known = error
        with self._guard:
            self._known[step] = known

    def _commit(self, step: Fetch) -> str:
        from boxwright.sources.git import resolve

        found = resolve(step.location, step.ref, cancelled=self._stop.is_set)
        if step.checksum and not found.is_named(step.checksum):
            message = f"{redacted(step.location)} is at {found.commit}, not {step.checksum}"
            raise FetchError("fetch.checksum", message, hint="look at what changed there before you change --checksum")
        return found.commit

    def _digest(self, step: Fetch) -> str:
        if step.checksum:
            return step.checksum
        known = self._remembered(step.location)
        from boxwright.sources.http import download

        with _Scratch(self._store.home.cache) as target:
            validators = known[1] if known else None
            fresh = download(step.location, target, known=validators, cancelled=self._stop.is_set)
            if fresh is None and known is not None:
                return known[0]
            if fresh is None:  # pragma: no cover - nothing was known, so the server can't say that it didn't change
                raise FetchError("fetch.status", f"{redacted(step.location)} came without content")
            self._keep(target, fresh)
            self._remember(step.location, fresh)
            return fresh.digest

    def fetch(self, step: Fetch, identity: str, directory: str, cancelled: Callable[[], bool]) -> None:
        """Fill `directory`: a file is ``content`` in it. Raises FetchError where it is not what `identity` says."""
        if step.kind == "git":
            from boxwright.sources.git import checkout

            checkout(step.location, identity, directory, keep_git_dir=step.keep_git_dir, cancelled=cancelled)
            return
        target = f"{directory}/{CONTENT}"
        try:
            shutil.move(self._waiting(Digest(identity)), target)
        except FileNotFoundError:
            self._again(step, identity, target, cancelled)
        os.chmod(target, 0o600)

    def _again(self, step: Fetch, identity: str, target: str, cancelled: Callable[[], bool]) -> None:
        from boxwright.sources.http import download

        fresh = download(step.location, target, cancelled=cancelled)
        if fresh is None or fresh.digest != identity:
            code = "fetch.checksum" if step.checksum else "fetch.changed"
            message = f"{redacted(step.location)} is {fresh.digest if fresh else 'gone'}, not {identity}"
            hint = "look at what changed there before you change --checksum" if step.checksum else "build again"
            raise FetchError(code, message, hint=hint)
        os.utime(target, (fresh.mtime, fresh.mtime))

    def _waiting(self, digest: Digest) -> str:
        return f"{self._store.home.cache}/http/{hex_of(digest)}"

    def _keep(self, path: str, fresh: Download) -> None:
        os.utime(path, (fresh.mtime, fresh.mtime))
        place = self._waiting(fresh.digest)
        directory = os.path.dirname(place)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        os.replace(path, place)
        for name in os.listdir(directory):  # of builds that ended before they could use it
            with suppress(FileNotFoundError):
                if os.stat(f"{directory}/{name}").st_ctime < time.time() - WAITING_SECONDS:
                    os.unlink(f"{directory}/{name}")

    def _remembered(self, url: str) -> tuple[str, Validators] | None:
        """What was last there, where its content is still here."""
        from boxwright.sources.http import Validators

        row = self._store.index.one("SELECT value FROM artifacts WHERE key=?", (_name(url),))
        if row is None:
            return None
        digest, etag, modified = json.loads(row[0])
        step = key_of(Fetch.__name__, fetch_fields(Fetch("http", url), digest))
        if self._store.snapshot(step) is None and not os.path.exists(self._waiting(Digest(digest))):
            return None
        return digest, Validators(etag, modified)

    def _remember(self, url: str, fresh: Download) -> None:
        value = json.dumps([fresh.digest, *fresh.validators])
        with self._store.index.writing() as db:
            db.execute("INSERT OR REPLACE INTO artifacts VALUES (?, ?, ?)", (_name(url), value, int(time.time())))


class _Scratch:
    """A name for a new file, gone afterwards unless it was moved away."""

    def __init__(self, directory: str) -> None:
        descriptor, self._path = tempfile.mkstemp(prefix="fetch-", dir=directory)
        os.close(descriptor)

    def __enter__(self) -> str:
        return self._path

    def __exit__(self, *_: object) -> None:
        if os.path.lexists(self._path):
            os.unlink(self._path)


def _name(url: str) -> str:
    """Under which name an answer is remembered; an address may hold a password, so it is not kept itself."""
    return str(key_of("url", (("url", url),)))
