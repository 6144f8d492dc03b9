"""FROM each kind of place."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Program

pytestmark = pytest.mark.integration


@pytest.fixture
def application(boxwright: Program, context: Callable[..., Path], busybox_base: Path, tmp_path: Path) -> Path:
    """An image of ours as an OCI layout."""
    place = context(f"FROM tar:{busybox_base}\nENV GREETING=hello\nRUN echo x > /x\nPORT 8080:80\n", name="application")
    layout = tmp_path / "layout"
    boxwright(
        "build", place, "-q", "-t", "application", "-o", f"oci:{layout}", "-o", f"docker-archive:{tmp_path}/d.tar"
    )
    return layout


@pytest.mark.parametrize("source", ["oci:{layout}", "docker-archive:{layout.parent}/d.tar", "application"])
def test_from_images_of_ours(
    boxwright: Program, context: Callable[..., Path], application: Path, tmp_path: Path, source: str
) -> None:
    place = context(f"FROM {source.format(layout=application)}\nRUN echo $GREETING > /y\nENV MORE=1\n", name="derived")
    boxwright("build", place, "-q", "-t", "derived", "-o", f"rootfs:{tmp_path / 'out'}")
    assert (tmp_path / "out/y").read_text() == "hello\n"
    assert (tmp_path / "out/x").read_text() == "x\n"
    config = json.loads(boxwright("inspect", "derived").out)[0]["config"]
    assert config["env"]["GREETING"] == "hello"
    assert config["published"] == [{"container": 80, "host": 8080, "protocol": "tcp"}]


@pytest.mark.engine("registry")
def test_from_a_registry(boxwright: Program, context: Callable[..., Path], application: Path, tmp_path: Path) -> None:
    reference = "127.0.0.1:5000/tests/application:1"
    copy = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{application}", f"docker://{reference}"]
    subprocess.run(copy, check=True)
    place = context(f"FROM {reference}\nRUN echo $GREETING > /y\n", name="derived")
    first = boxwright("build", place, "-q", "-o", f"rootfs:{tmp_path / 'out'}").out
    assert (tmp_path / "out/y").read_text() == "hello\n"
    assert boxwright("build", place, "-q").out == first
    assert "CACHED" in boxwright("build", place, "--pull", "--dry-run").out
    missing = context("FROM 127.0.0.1:5000/tests/nothing:1\n", name="missing")
    assert "[registry.not-found]" in boxwright("build", missing, status=5).err


def test_bootstrapped_base(boxwright: Program, context: Callable[..., Path], tmp_path: Path) -> None:
    place = context("FROM debian:bookworm\nRUN dpkg-query -W base-files > /v && id -u\n")
    boxwright("build", place, "-q", "-o", f"rootfs:{tmp_path / 'out'}")
    assert (tmp_path / "out/v").read_text().startswith("base-files\t12")
    assert not list((tmp_path / "out/dev").iterdir())


@pytest.mark.long
def test_unreachable_mirror(fresh_boxwright: Program, context: Callable[..., Path]) -> None:
    place = context("FROM debian:bookworm\n")
    result = fresh_boxwright("build", place, "--mirror", "http://127.0.0.1:9/debian", status=5)
    assert "[base.fetch]" in result.err
    assert "Traceback" not in result.err


def test_configured_bases(
    boxwright: Program, context: Callable[..., Path], application: Path, busybox_base: Path, tmp_path: Path
) -> None:
    """A build context comes before a local tag, that before a configured base, and that before a registry."""
    configuration = f"bases:\n  company/base: oci:{application}\n  application: tar:{busybox_base}\n"
    place = context("FROM company/base\nRUN echo $GREETING > /y\n", {".boxwright-config.yaml": configuration})
    plan = boxwright("build", place, "--dry-run").out
    assert f"FROM company/base = configured base company/base: oci:{application}" in plan
    boxwright("build", place, "-q", "-o", f"rootfs:{tmp_path / 'out'}")
    assert (tmp_path / "out/y").read_text() == "hello\n"
    (place / "Recipe").write_text("FROM application\n")
    assert "FROM application = local image application" in boxwright("build", place, "--dry-run").out
    as_context = boxwright("build", place, "--dry-run", "--build-context", f"application={place}").out
    assert "local image" not in as_context
    (place / "Recipe").write_text("FROM debian:12\n")
    assert "FROM debian:12 = base system debian:bookworm" in boxwright("build", place, "--dry-run").out


def test_a_mistake_in_the_configuration(boxwright: Program, context: Callable[..., Path]) -> None:
    text = "bases:\n  mine:\n    type: debian\n    suit: bookworm\n"
    place = context("FROM mine\n", {".boxwright-config.yaml": text})
    said = boxwright("build", place, status=2).err
    assert "[config.unknown-key]" in said
    assert ".boxwright-config.yaml:4" in said
    assert "'suite'" in said
