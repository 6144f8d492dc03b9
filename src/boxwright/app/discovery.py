"""``--discover``: a place whose root holds a configuration, and definitions in ``packages/``.

A git repository is checked out, each commit once. Of a web site `.boxwright-config.yaml` is fetched, and, where it is
there, ``packages.tar.zst`` with a package tree. A directory is taken as it is.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from boxwright.app.configuration import NAMES
from boxwright.errors import BoxwrightError, FetchError, UsageError
from boxwright.model.giturl import GitUrl, parse_git_url, redacted
from boxwright.store.store import Store

TREES = "BOXWRIGHT_PACKAGES"
DEFINITIONS = "packages.tar.zst"
_TRUE, _FALSE = frozenset({"true", "1", "yes", ""}), frozenset({"false", "0", "no"})


class Discovered(NamedTuple):
    """The configurations that were found, the first with the last word, the package trees, and whether to push."""

    files: tuple[str, ...] = ()
    trees: tuple[str, ...] = ()
    push: bool = False

    def environment(self, environment: Mapping[str, str]) -> Mapping[str, str]:
        """The environment, with the trees that were found after those that it names."""
        if not self.trees:
            return environment
        named = [environment[TREES]] if environment.get(TREES) else []
        return {**environment, TREES: ":".join([*named, *self.trees])}


def discover(places: Sequence[str], store: Store, *, offline: bool) -> Discovered:
    """Everything that the places hold. Raises UsageError, FetchError `discover.*`."""
    found = Discovered()
    for text in places:
        place, push = parse_place(text)
        directory = _directory(place, store, offline=offline)
        files = tuple(path for name in NAMES if os.path.isfile(path := f"{directory}/{name}"))
        if not files:
            raise FetchError("discover.empty", f"{redacted(place)} holds no {NAMES[0]}")
        trees = (f"{directory}/packages",) if os.path.isdir(f"{directory}/packages") else ()
        found = Discovered(found.files + files, found.trees + trees, found.push or push)
    return found


def parse_place(text: str) -> tuple[str, bool]:
    """``PLACE[,push=True]``. Raises UsageError `usage.discover`."""
    place, *options = text.split(",")
    push = False
    for option in options:
        name, _, value = option.partition("=")
        if name != "push" or value.lower() not in _TRUE | _FALSE:
            raise UsageError("usage.discover", f"--discover {text}: {option!r} is not known", hint="push=True is")
        push = value.lower() in _TRUE
    if not place:
        raise UsageError("usage.discover", "--discover: a place is expected", hint="such as github.com/OWNER/NAME")
    return place, push


def _directory(place: str, store: Store, *, offline: bool) -> str:
    if os.path.isdir(place):
        return os.path.abspath(place)
    git = parse_git_url(place)
    if git is None and place.startswith(("http://", "https://")):
        return _site(place.rstrip("/"), store, offline=offline)
    if git is None and "/" in place and "." in place.partition("/")[0]:
        git = GitUrl(f"https://{place}")
    if git is None:
        hint = "a git repository, an address of a web site, or a directory"
        raise UsageError("usage.discover", f"{place} is no place", hint=hint)
    top = f"{store.home.cache}/discovered/{hashlib.sha256(git.remote.encode()).hexdigest()[:16]}"
    commit = _commit(git, top, offline=offline)
    directory = f"{top}/{commit}"
    if not os.path.isdir(directory):
        from boxwright.sources.git import checkout

        with _made(directory) as part:
            checkout(git.remote, commit, part, keep_git_dir=False)
    inside = os.path.realpath(f"{directory}/{git.subdirectory}")
    if not f"{inside}/".startswith(f"{os.path.realpath(directory)}/"):
        raise UsageError("usage.discover", f"{git.subdirectory!r} is not in {redacted(place)}")
    return inside


def _commit(git: GitUrl, top: str, *, offline: bool) -> str:
    """The commit that the place is at now; offline the one that was fetched last."""
    if not offline:
        from boxwright.sources.git import resolve

        return resolve(git.remote, git.ref).commit
    here: list[tuple[float, str]] = []
    with suppress(FileNotFoundError):
        here = [(item.stat().st_ctime, item.name) for item in os.scandir(top) if not item.name.startswith(".")]
    if not here:
        raise FetchError("discover.offline", f"{redacted(git.remote)} was never fetched", hint="leave out --offline")
    return max(here)[1]


def _site(address: str, store: Store, *, offline: bool) -> str:
    """What a web site's root holds, fetched anew where it can be."""
    from boxwright.sources.http import download

    directory = f"{store.home.cache}/discovered/{hashlib.sha256(address.encode()).hexdigest()[:16]}"
    if offline:
        if not os.path.isdir(directory):
            raise FetchError("discover.offline", f"{redacted(address)} was never fetched", hint="leave out --offline")
        return directory
    with _made(directory) as part:
        for name in NAMES:
            try:
                download(f"{address}/{name}", f"{part}/{name}", cancelled=lambda: False)
                break
            except FetchError as error:
                if error.code != "fetch.status" or name == NAMES[-1]:
                    raise
        _definitions(address, part)
    return directory


def _definitions(address: str, part: str) -> None:
    from boxwright.sources.http import download
    from boxwright.sources.unpack import Limits, unpack_tar

    archive = f"{part}/{DEFINITIONS}"
    try:
        download(f"{address}/{DEFINITIONS}", archive, cancelled=lambda: False)
    except FetchError as error:
        if error.code != "fetch.status":
            raise
        return
    os.mkdir(f"{part}/packages")
    unpack_tar(archive, f"{part}/packages", limits=Limits(100_000, 1 << 30))


class _made:  # noqa: N801 - used like a function
    """A new directory that takes its name when it is complete, in place of what had it."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._part = ""

    def __enter__(self) -> str:
        top = os.path.dirname(self._directory)
        try:
            os.makedirs(top, mode=0o700, exist_ok=True)
            self._part = tempfile.mkdtemp(prefix=".", dir=top)
        except OSError as error:
            raise BoxwrightError("discover.unwritable", f"{top} can't be written: {error.strerror}") from error
        return self._part

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            shutil.rmtree(self._directory, ignore_errors=True)
            with suppress(OSError):  # another process was quicker
                os.rename(self._part, self._directory)
        shutil.rmtree(self._part, ignore_errors=True)
