"""What a build of a container says, as the cases in tests/cases/container/transcripts.yaml have it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import yaml

from tests.conftest import ROOT, Program

CASES = ROOT / "tests/cases/container/transcripts.yaml"
PACKAGE = """\
name: nginx
version: 1.22.1
license: MIT
toolchain: {base: debian:bookworm, packages: [gcc, libc6-dev, patch]}
sources: [{local: src}]
phases:
  build: sh ./nginx.sh
  install: |
    mkdir -p "$DESTDIR/usr/sbin"
    cp nginx.sh "$DESTDIR/usr/sbin/nginx"
test:
  - . /usr/sbin/nginx
"""


def matches(said: list[str], expected: list[str]) -> bool:
    """Whether the lines are those that are expected: HASH is any, `...` any lines."""
    parts = []
    for line in expected:
        if line == "...":
            parts.append(r"(?:.*\n)*")
        else:
            parts.append(re.escape(f"{line}\n").replace("HASH:\\ HASH", "HASH:\\ [0-9a-f]{64}"))
    return re.fullmatch("".join(parts), "".join(f"{line}\n" for line in said)) is not None


def test_transcripts(boxwright: Program, tmp_path: Path) -> None:
    place, out, warm = tmp_path / "nginx-prod", tmp_path / "out", tmp_path / "warm"
    for directory in (place / "pkgs/nginx/src", place / "files", out, warm):
        directory.mkdir(parents=True)
    shutil.copy(ROOT / "examples/nginx-prod/container.yaml", place)
    (place / "files/nginx.conf").write_text("configuration\n")
    (place / "pkgs/nginx/pkg.yaml").write_text(PACKAGE)
    (place / "pkgs/nginx/src/nginx.sh").write_text(f"true {tmp_path}\n")  # never built before
    toolchain = PACKAGE[: PACKAGE.index("sources:")].replace("nginx", "warm")
    (warm / "pkg.yaml").write_text(f"{toolchain}phases: {{install: 'true'}}\n")
    boxwright("build", warm, timeout=600)
    for case in yaml.safe_load(CASES.read_text("utf-8")):
        for path, text in case.get("first", {}).items():
            (place / path).write_text(f"{text}# {tmp_path}\n")
        result = boxwright(
            "build", place, "-t", "transcript", *case.get("arguments", ()), cwd=out, status=case.get("status", 0)
        )
        said = result.err.splitlines()
        assert matches(said, case["said"].splitlines()), f"{case['name']}:\n{result.err}"
