"""What lies beside a bundle: its digest, its manifest with a signature, the index of revisions, and `latest`."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from boxwright.errors import BoxwrightError

if TYPE_CHECKING:
    from boxwright.app.bundling import Bundle

INDEX, LATEST = "index.json", "latest"
VERSION = 1


def publish(bundle: Bundle, part: str, key: str) -> None:
    """Move the finished ZIP into place with what lies beside it; the index and `latest` come last."""
    directory = os.path.dirname(bundle.path)
    with locked(directory):
        entries = read_index(directory)
        require_project(entries, bundle.project, directory)
        os.chmod(part, 0o644)
        os.rename(part, bundle.path)
        name = os.path.basename(bundle.path)
        manifest = described(bundle)
        replace(f"{bundle.path}.sha256", f"{bundle.sha256}  {name}\n")
        replace(f"{bundle.path}.json", json.dumps(manifest, sort_keys=True) + "\n")
        if key:
            from boxwright.app.bundlekeys import sign

            sign(f"{bundle.path}.json", key)
        elif os.path.exists(f"{bundle.path}.json.sig"):
            os.unlink(f"{bundle.path}.json.sig")
        write_index(directory, [*(it for it in entries if it["file"] != name), manifest])
        replace(f"{directory}/{LATEST}", f"{name}\n")


def require_project(entries: list[dict[str, Any]], project: str, where: str) -> None:
    """Raise BoxwrightError `bundle.project` where there are bundles of another project."""
    others = {str(it["project"]) for it in entries} - {project}
    if others:
        hint = "a directory or prefix is for one project: choose another"
        raise BoxwrightError("bundle.project", f"{where} holds bundles of {min(others)}, not of {project}", hint=hint)


def described(bundle: Bundle) -> dict[str, Any]:
    """A bundle as its manifest and the index have it."""
    return {
        "file": os.path.basename(bundle.path),
        "files": bundle.files,
        "project": bundle.project,
        "revision": bundle.revision,
        "sha256": bundle.sha256,
        "size": bundle.size,
        "time": bundle.time,
    }


def read_index(directory: str) -> list[dict[str, Any]]:
    """The bundles of a directory, oldest first. Raises BoxwrightError `bundle.index`."""
    path = f"{directory}/{INDEX}"
    try:
        with open(path, encoding="utf-8") as file:
            return parse_index(file.read(), path)
    except FileNotFoundError:
        return []


def parse_index(text: str, path: str) -> list[dict[str, Any]]:
    """The entries of an index. Raises BoxwrightError `bundle.index`."""
    try:
        found = json.loads(text)
        entries: list[dict[str, Any]] = found["bundles"]
        if found["version"] == VERSION and all(_is_name(it["file"]) and it["project"] for it in entries):
            return entries
    except (ValueError, KeyError, TypeError):
        pass
    hint = "it is made anew from what is bundled next once it is removed"
    raise BoxwrightError("bundle.index", f"{path} is no index of bundles", hint=hint)


def _is_name(text: object) -> bool:
    return isinstance(text, str) and text.endswith(".zip") and "/" not in text and not text.startswith(".")


def index_text(entries: list[dict[str, Any]]) -> str:
    """An index as it is written."""
    return json.dumps({"version": VERSION, "bundles": entries}, indent=1, sort_keys=True) + "\n"


def write_index(directory: str, entries: list[dict[str, Any]]) -> None:
    """Replace the index."""
    replace(f"{directory}/{INDEX}", index_text(entries))


def prune(directory: str, keep: int) -> list[str]:
    """Remove all but the newest `keep` bundles; the one that `latest` names stays. Returns what went."""
    with locked(directory):
        entries = read_index(directory)
        gone = entries[: max(0, len(entries) - keep)]
        write_index(directory, entries[len(gone) :])
        for entry in gone:
            for suffix in ("", ".sha256", ".json", ".json.sig"):
                path = f"{directory}/{entry['file']}{suffix}"
                if os.path.exists(path):
                    os.unlink(path)
    return [str(entry["file"]) for entry in gone]


def replace(path: str, text: str) -> None:
    """Write a file so that a reader sees the old or the new one."""
    part = f"{os.path.dirname(path)}/.{os.path.basename(path)}.{os.getpid()}"
    with open(part, "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(part, path)


@contextmanager
def locked(directory: str) -> Iterator[None]:
    """One writer of a directory's index at a time."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
