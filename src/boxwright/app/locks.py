"""The file boxwright.lock: what a build takes from outside, by content (docs/lock.md)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from boxwright.app.definitions import LOCK, lock_path
from boxwright.errors import DefinitionError
from boxwright.model.span import Span
from boxwright.model.step import Base

FORMAT = 1
WIDTH = 160
SECTIONS = frozenset(
    {"format", "platform", "urls", "git", "debian-packages", "debian-sources", "bases", "images", "packages", "modules"}
)
_HEX = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~:_-]*")
_PATH = re.compile(r"(?!.*//)(?!(?:.*/)?\.\.(?:/|$))[A-Za-z0-9][A-Za-z0-9.+~_%/-]*")
_SOURCE = re.compile(r"(?:deb \[signed-by=/[^\s\]]+\] )?[^\s\]]+( [^\s\]]+)*")
_HINT = "run `boxwright lock`, or take the file from the version control again"


class LockedPackage(NamedTuple):
    """A package of a base: its file by SHA-256, `path` below an archive's root, and the archive's priority of it."""

    name: str
    version: str
    architecture: str
    sha256: str
    path: str = ""
    priority: str = ""


class LockedBase(NamedTuple):
    """A tree from outside. `content` identifies it; of a bootstrapped one the packages and its sources.list."""

    source: str
    name: str
    content: str
    packages: tuple[LockedPackage, ...] = ()
    sources: tuple[str, ...] = ()


class Lock(NamedTuple):
    """What a lock says. `pins` are by kind and name; `bases` are toolchains, `images` what FROM and `base:` name.

    `paths` say where files of the distribution are below an archive's root, by SHA-256.
    """

    file: str
    platform: str
    pins: Mapping[str, str]
    bases: Mapping[str, LockedBase]
    images: Mapping[str, LockedBase]
    paths: Mapping[str, str]


def read_lock(file: str, platform: str) -> Lock | None:
    """The lock beside a definition, None where there is none.

    Raises `lock.damaged` with the line, `lock.version`, and `lock.platform` where it is another platform's.
    """
    path = lock_path(file)
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError("lock.damaged", f"{path} can't be read: {error}", hint=_HINT) from error
    lock = parse_lock(path, text)
    own = lock.bases or lock.images or lock.paths or any(name.startswith("debian-package ") for name in lock.pins)
    if lock.platform not in ("", platform) and own:
        raise DefinitionError(
            "lock.platform",
            f"{path} was made for {lock.platform}, not for {platform}",
            hint=f"run `boxwright lock --platform {platform}` on such a machine",
            where=Span(path, 1),
        )
    return lock


def lock_name(name: str) -> str:
    """What a lock calls a toolchain: of a file the name alone, since the digest is there and directories differ."""
    return re.sub(r"^(tar:|image\+(?:oci|oci-archive|docker-archive):)(?:.*/)", r"\1", name)


def locked_as(lock: Lock | None, base: Base) -> LockedBase | None:
    """What the lock says of a base, where the step is pinned to that."""
    if lock is None or base.pinned is None:
        return None
    same = (base.source, lock_name(base.name) if base.source == "toolchain" else base.name, str(base.pinned))
    known = (*lock.bases.values(), *lock.images.values())
    return next((locked for locked in known if (locked.source, locked.name, locked.content) == same), None)


def parse_lock(path: str, text: str) -> Lock:
    """The text of a lock. Raises `lock.damaged` and `lock.version`."""
    try:
        data = json.loads(text, object_pairs_hook=_once)
    except _TwiceError as error:
        raise _damaged(path, text, str(error), f"{error} is there twice") from error
    except json.JSONDecodeError as error:
        where = Span(path, error.lineno, error.colno)
        raise DefinitionError("lock.damaged", f"this is no JSON: {error.msg}", hint=_HINT, where=where) from error
    except RecursionError as error:
        raise DefinitionError("lock.damaged", "lists of lists without end", hint=_HINT, where=Span(path, 1)) from error
    if not isinstance(data, dict) or "format" not in data:
        raise DefinitionError("lock.damaged", "this is no lock", hint=_HINT, where=Span(path, 1))
    if data["format"] != FORMAT:
        message = f"this lock has format {data['format']!r}; this version of boxwright reads {FORMAT}"
        where = Span(path, _line(text, "format"))
        raise DefinitionError("lock.version", message, hint="use that version, or run `boxwright lock`", where=where)
    return _Reader(path, text, data).read()


class _TwiceError(ValueError):
    """A key that is there twice."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _TwiceError(key)
        found[key] = value
    return found


def _line(text: str, name: str, section: str = "") -> int:
    """The line on which a name stands, in a section where one is given."""
    start = max(0, text.find(f"\n {json.dumps(section)}:")) if section else 0
    place = text.find(f"{json.dumps(name, ensure_ascii=False)}:", start)
    return text.count("\n", 0, place) + 1 if place >= 0 else 1


def _damaged(path: str, text: str, name: str, message: str, section: str = "") -> DefinitionError:
    return DefinitionError("lock.damaged", message, hint=_HINT, where=Span(path, _line(text, name, section)))


class _Reader:
    """Takes the sections, each item of which must be what it should."""

    def __init__(self, path: str, text: str, data: dict[str, Any]) -> None:
        self._path = path
        self._text = text
        self._data = data
        self._within = ""
        self._paths: dict[str, str] = {}

    def read(self) -> Lock:
        pins: dict[str, str] = {}
        for name in self._data.keys() - SECTIONS:
            raise _damaged(self._path, self._text, name, f"{name!r} is no section of a lock")
        for url, value in self._section("urls").items():
            pins[f"url {url}"] = self._matched(url, value, _HEX)
        for url, value in self._section("git").items():
            pins[f"git {url}"] = self._matched(url, value, _COMMIT)
        for name, value in self._section("debian-packages").items():
            pins[f"debian-package {name}"] = self._located(name, value)
        for name, value in self._section("debian-sources").items():
            pins[f"debian-source {name}"] = json.dumps(self._files(name, value))
        for name, value in self._section("packages").items():
            self._matched(name, value, _DIGEST)
        bases = {name: self._base(name, value, "toolchain") for name, value in self._section("bases").items()}
        pins.update({f"base {name}": base.content for name, base in bases.items()})
        images = {name: self._base(name, value, "") for name, value in self._section("images").items()}
        platform = self._data.get("platform", "")
        if not isinstance(platform, str):
            raise self._wrong("platform")
        return Lock(self._path, platform, pins, bases, images, self._paths)

    def _section(self, name: str) -> dict[str, Any]:
        self._within = name
        found = self._data.get(name, {})
        if not isinstance(found, dict):
            raise self._wrong(name)
        return found

    def _wrong(self, name: str) -> DefinitionError:
        message = f"what is said of {name} is not what a lock says"
        return _damaged(self._path, self._text, name, message, self._within if name != self._within else "")

    def _matched(self, name: str, value: object, pattern: re.Pattern[str]) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self._wrong(name)
        return value

    def _located(self, name: str, value: object) -> str:
        """``sha256:HEX``, and after a blank the path in the archive."""
        digest, _, path = value.partition(" ") if isinstance(value, str) else ("", "", "")
        self._note(name, self._matched(name, digest, _DIGEST)[7:], path)
        return digest

    def _note(self, name: str, sha256: str, path: str) -> None:
        if path:
            self._paths[sha256] = self._matched(name, path, _PATH)

    def _files(self, name: str, value: object) -> list[list[str]]:
        if not isinstance(value, list) or not value:
            raise self._wrong(name)
        files = []
        for item in value:
            if not isinstance(item, list) or len(item) not in (2, 3):
                raise self._wrong(name)
            file = self._matched(name, item[0], _WORD)
            digest = self._matched(name, item[1], _DIGEST)
            self._note(name, digest[7:], self._matched(name, item[2], _PATH) if len(item) == 3 else "")
            files.append([file, digest])
        return files

    def _base(self, name: str, value: object, source: str) -> LockedBase:
        if not isinstance(value, dict) or not isinstance(value.get("packages", []), list):
            raise self._wrong(name)
        packages = tuple(self._package(name, item) for item in value.get("packages", []))
        sources = value.get("sources", [])
        if not isinstance(sources, list):
            raise self._wrong(name)
        called = value.get("name", name)
        source = source or value.get("source", "")
        if not isinstance(called, str) or not isinstance(source, str) or not source:
            raise self._wrong(name)
        content = self._matched(name, value.get("content"), _DIGEST)
        return LockedBase(
            source, called, content, packages, tuple(self._matched(name, line, _SOURCE) for line in sources)
        )

    def _package(self, name: str, item: object) -> LockedPackage:
        if not isinstance(item, list) or len(item) not in (4, 6):
            raise self._wrong(name)
        words = [self._matched(name, word, _WORD) for word in item[:3]]
        sha256 = self._matched(name, item[3], _HEX)
        path, priority = (item[4], item[5]) if len(item) == 6 else ("", "")
        self._note(name, sha256, path)
        if priority:
            self._matched(name, priority, _WORD)
        return LockedPackage(words[0], words[1], words[2], sha256, path, priority)


def lock_text(data: object, indent: int = 0) -> str:
    """A lock as text: what fits on a line stands on one, so that a change shows as a few lines."""
    compact = json.dumps(data, ensure_ascii=False, sort_keys=True)
    if not isinstance(data, dict | list) or not data or (indent > 1 and len(compact) + indent <= WIDTH):
        return compact
    blank = " " * (indent + 1)
    if isinstance(data, dict):
        items = [
            f"{json.dumps(key, ensure_ascii=False)}: {lock_text(value, indent + 1)}"
            for key, value in sorted(data.items())
        ]
        opening, closing = "{", "}"
    else:
        items = [json.dumps(item, ensure_ascii=False, sort_keys=True) for item in data]
        opening, closing = "[", "]"
    return f"{opening}\n{blank}" + f",\n{blank}".join(items) + f"\n{' ' * indent}{closing}"


def write_text(path: str, text: str) -> None:
    """Write a file whole or not at all."""
    part = f"{path}.{os.getpid()}"
    try:
        with open(part, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(part, path)
    finally:
        if os.path.exists(part):
            os.unlink(part)


def unpinned(name: str, where: Span | None, lock: Lock | None = None) -> DefinitionError:
    """The error for what must be pinned and is not."""
    file = lock.file if lock else LOCK
    return DefinitionError(
        "lock.missing", f"{file} does not pin {name}", hint="run `boxwright lock` and look at what it adds", where=where
    )
