"""The cases: data files of Dockerfiles, each with what it needs and, for judges too old for it, what it must give."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
OLDEST = "1.2"
"""The Dockerfile frontend inside docker.io 20.10, the oldest judge."""

_KEYS = frozenset(
    [
        "name",
        "feature",
        "needs",
        "context",
        "contexts",
        "dockerfile",
        "file",
        "args",
        "serve",
        "git",
        "environment",
        "error",
        "expect",
        "base",
        "sample",
    ]
)


class CaseError(Exception):
    """A data file that can't be used."""


@dataclass(frozen=True)
class Case:
    """One Dockerfile. `needs` is the least frontend that understands it; `error`: it must be refused."""

    instruction: str
    name: str
    feature: str
    dockerfile: str
    needs: str = OLDEST
    context: Mapping[str, Any] = field(default_factory=dict)
    contexts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    file: str = "Dockerfile"
    args: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    serve: Mapping[str, Any] = field(default_factory=dict)
    git: Mapping[str, Any] = field(default_factory=dict)
    error: bool | str = False
    expect: Mapping[str, Any] | None = None
    sample: bool = False

    @property
    def key(self) -> str:
        """Its name in lists: no two cases share one."""
        return f"{self.instruction}/{self.name}"

    @property
    def slug(self) -> str:
        """Its name where only a few characters may stand."""
        return "".join(char if char.isalnum() else "-" for char in self.key.lower()).strip("-")


def version(text: str) -> tuple[int, ...]:
    """A version for comparison: 1.10 is more than 1.9."""
    return tuple(int(part) for part in text.split("."))


def load_cases() -> list[Case]:
    """All cases in the order of the files."""
    found = [case for path in sorted((HERE / "cases").glob("*.yaml")) for case in _load(path)]
    seen: set[str] = set()
    for case in found:
        if case.slug in seen:
            raise CaseError(f"two cases are named {case.key}")
        seen.add(case.slug)
    return found


def load_images() -> list[Case]:
    """The images that cases start from, beside the base, in the order in which they are built."""
    return _load(HERE / "images.yaml")


def recorded() -> Mapping[str, Mapping[str, Any]]:
    """What a newer BuildKit gave for cases, by key."""
    path = HERE / "expected.yaml"
    found: Mapping[str, Mapping[str, Any]] = read_yaml(path) or {} if path.exists() else {}
    return found


def accepted() -> Mapping[str, str]:
    """Cases whose difference is accepted, with the reason."""
    found: Mapping[str, str] = read_yaml(HERE / "accepted.yaml") or {}
    return found


def read_yaml(path: Path) -> Any:
    """A data file; numbers such as 1.10 are written in quotes there."""
    with path.open(encoding="utf-8") as text:
        return yaml.load(text, Loader=yaml.CSafeLoader)


def _load(path: Path) -> list[Case]:
    return [_case(path, item) for item in read_yaml(path) or ()]


def _case(path: Path, item: Mapping[str, Any]) -> Case:
    unknown = item.keys() - _KEYS
    if unknown or not {"name", "dockerfile"} <= item.keys():
        raise CaseError(f"{path.name}: {item.get('name')}: unknown {sorted(unknown)}, or name or dockerfile is missing")
    values = dict(item)
    for name in ("needs",):
        if name in values and not isinstance(values[name], str):
            raise CaseError(f"{path.name}: {item['name']}: {name} is a text in quotes")
    values["args"] = tuple(values.get("args", ()))
    values.setdefault("feature", "basics")
    return Case(instruction=path.stem, **values)


def write_tree(directory: Path, files: Mapping[str, Any], replace: Mapping[str, str] | None = None) -> None:
    """Make the files of a context. A text is a file; a mapping says more.

    Keys of a mapping: text, bytes (hexadecimal), mode, link, hardlink, dir, fifo, size (sparse), attributes, mtime.
    """
    directory.mkdir(parents=True, exist_ok=True)
    late: list[tuple[Path, int]] = []
    for name, given in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        item = given if isinstance(given, Mapping) else {"text": given}
        _write(directory, path, item, replace or {})
        if "mode" in item:
            late.append((path, int(str(item["mode"]), 8)))
        if "mtime" in item:
            os.utime(path, (item["mtime"], item["mtime"]), follow_symlinks=False)
    for path, mode in late:
        path.chmod(mode)


def _write(directory: Path, path: Path, item: Mapping[str, Any], replace: Mapping[str, str]) -> None:
    if "link" in item:
        path.symlink_to(item["link"])
    elif "hardlink" in item:
        path.hardlink_to(directory / item["hardlink"])
    elif item.get("dir"):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
    elif item.get("fifo"):
        os.mkfifo(path, 0o644)
    elif "device" in item:
        os.mknod(path, stat.S_IFCHR | 0o644, os.makedev(*item["device"]))
    else:
        text = str(item.get("text", ""))
        for old, new in replace.items():
            text = text.replace(old, new)
        data = bytes.fromhex(item["bytes"]) if "bytes" in item else text.encode()
        path.write_bytes(data)
        path.chmod(0o644)
        if "size" in item:
            os.truncate(path, int(item["size"]))
    for name, value in item.get("attributes", {}).items():
        os.setxattr(path, name, bytes.fromhex(value), follow_symlinks=False)
