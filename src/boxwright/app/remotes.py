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
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from boxwright.errors import BoxwrightError, FetchError
from boxwright.model.digest import Digest, hex_of
from boxwright.model.giturl import redacted, without_password
from boxwright.model.keys import key_of
from boxwright.model.step import Fetch
from boxwright.steps.fetch import fetch_fields
from boxwright.store.store import Store

if TYPE_CHECKING:
    from boxwright.app.locks import Lock
    from boxwright.sources.http import Download, Validators

AT_ONCE = 8
PATIENCE_SECONDS = 1.0
WAITING_SECONDS = 24 * 3600
_KINDS = {"git": "git", "http": "url"}
_OFFLINE = "build once without --offline"
CONTENT = "content"
"""The name of a fetched file in its tree."""


class Remotes:
    """Reaches web servers and repositories for one build; what a lock pins needs no question."""

    def __init__(self, store: Store, lock: Lock | None = None, *, locked: bool = False, offline: bool = False) -> None:
        self._store = store
        self._lock = lock
        self._locked = locked
        self._offline = offline
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

    def _pinned(self, step: Fetch) -> str:
        """What the lock says, empty where it says nothing. Raises `lock.missing` where it must."""
        name = fetch_pin(step)
        found = self._lock.pins.get(name, "") if self._lock else ""
        if not found and self._locked and not step.checksum:
            from boxwright.app.locks import unpinned

            raise unpinned(name, None, self._lock)
        return found

    def _commit(self, step: Fetch) -> str:
        pinned = self._pinned(step)
        if pinned:
            return pinned
        if self._offline:
            return self._last_commit(step)
        from boxwright.sources.git import resolve

        found = resolve(step.location, step.ref, cancelled=self._stop.is_set)
        if step.checksum and not found.is_named(step.checksum):
            message = f"{redacted(step.location)} is at {found.commit}, not {step.checksum}"
            raise FetchError("fetch.checksum", message, hint="look at what changed there before you change --checksum")
        self._remember(fetch_pin(step), found.commit)
        return found.commit

    def _last_commit(self, step: Fetch) -> str:
        """What was there when it was last asked for."""
        row = self._store.index.one("SELECT value FROM artifacts WHERE key=?", (_name(fetch_pin(step)),))
        if row is None:
            raise FetchError("source.offline", f"{redacted(step.location)} is not here", hint=_OFFLINE)
        commit: str = json.loads(row[0])[0]
        return commit

    def _digest(self, step: Fetch) -> str:
        pinned = self._pinned(step)
        if pinned or step.checksum:
            return f"sha256:{pinned}" if pinned else step.checksum
        known = self._remembered(step.location)
        if self._offline:
            if known is None:
                raise FetchError("source.offline", f"{redacted(step.location)} is not here", hint=_OFFLINE)
            return known[0]
        from boxwright.sources.http import download

        with _Scratch(self._store.home.cache) as target:
            validators = known[1] if known else None
            fresh = download(step.location, target, known=validators, cancelled=self._stop.is_set)
            if fresh is None and known is not None:
                return known[0]
            if fresh is None:  # pragma: no cover - nothing was known, so the server can't say that it didn't change
                raise FetchError("fetch.status", f"{redacted(step.location)} came without content")
            self._keep(target, fresh)
            self._remember(step.location, fresh.digest, fresh.validators)
            return fresh.digest

    def fetch(self, step: Fetch, identity: str, directory: str, cancelled: Callable[[], bool]) -> None:
        """Fill `directory`: a file is ``content`` in it. Raises FetchError where it is not what `identity` says."""
        if self._offline:
            raise FetchError("source.offline", f"{redacted(step.location)} is not here", hint=_OFFLINE)
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
            fixed = step.checksum or self._pinned(step)
            code = "fetch.checksum" if fixed else "fetch.changed"
            message = f"{redacted(step.location)} is {fresh.digest if fresh else 'gone'}, not {identity}"
            hint = "look at what changed there before you change --checksum or the lock" if fixed else "build again"
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

    def _remember(self, url: str, identity: str, validators: Sequence[str] = ("", "")) -> None:
        value = json.dumps([identity, *validators])
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


def fetch_pin(step: Fetch) -> str:
    """Under which name a lock pins what is fetched; without a password that the address may hold."""
    place = without_password(step.location)
    return f"git {place}#{step.ref}" if step.kind == "git" and step.ref else f"{_KINDS[step.kind]} {place}"


def _name(url: str) -> str:
    """Under which name an answer is remembered; an address may hold a password, so it is not kept itself."""
    return str(key_of("url", (("url", url),)))
