"""The images that engines have of stacks."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.integration.test_stacks import START, a_project

pytestmark = pytest.mark.integration

IMAGES = {
    "podman": ["podman", "images", "-q", "--no-trunc"],
    "docker": ["docker", "images", "-q", "--no-trunc"],
    "lxd": ["lxc", "image", "list", "-f", "csv", "-c", "F"],
}


@pytest.mark.parametrize(
    "engine", [pytest.param(it, marks=[pytest.mark.engine(it), pytest.mark.long]) for it in ("podman", "docker", "lxd")]
)
def test_an_engine_keeps_no_image_that_no_release_has(
    boxwright: Program, tmp_path: Path, busybox_base: Path, engine: str
) -> None:
    def images() -> set[str]:
        return set(subprocess.run(IMAGES[engine], check=True, capture_output=True, text=True).stdout.split())

    before = images()
    for project in a_project(boxwright, tmp_path / "stack", busybox_base, engine):
        project.write(replicas=1)
        (project.directory / "web/start").write_text("#!/bin/sh\nexit 3\n")
        project("deploy", status=1)
        assert images() <= before, "that of the failed one is gone"
        (project.directory / "web/start").write_text(START)
        project("deploy")
        kept = images() - before
        assert len(kept) == 2
        project.page("two")
        project("deploy")
        assert images() - before > kept, "it can be gone back to"
        project("destroy", "--yes")
        assert images() <= before
