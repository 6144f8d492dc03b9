"""Projects with a manifest, and repositories that are fetched over the network."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.integration.web import Web, serving

Project = Callable[..., Path]
ECHO = "while true; do echo 'it answers' | busybox nc -l -p 7000; done"


@pytest.fixture
def project(tmp_path: Path, busybox_base: Path) -> Project:
    """Make a project: `project(manifest, {"a/b": "text"})`; {base} in the manifest is a small root file system."""

    def make(manifest: str, files: dict[str, str] | None = None, name: str = "project") -> Path:
        directory = tmp_path / name
        texts = {"manifest.yaml": manifest.replace("{base}", f"tar:{busybox_base}"), **(files or {})}
        for relative, text in texts.items():
            path = directory / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("{base}", f"tar:{busybox_base}"))
        return directory

    return make


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    (tmp_path / "repositories").mkdir()
    with serving(tmp_path / "repositories") as server:
        yield server


def files_of(program: Program, place: Path, image: str) -> dict[str, bytes]:
    program("export", image, f"rootfs:{place}")
    return {
        str(it.relative_to(place)): it.read_bytes() for it in place.rglob("*") if it.is_file() and not it.is_symlink()
    }


def suites(file: Path) -> dict[str, list[str]]:
    """The names of the suites, and how each of their cases ended."""
    root = ET.fromstring(file.read_bytes())
    return {suite.attrib["name"]: [case[0].tag if len(case) else "passed" for case in suite] for suite in root}
