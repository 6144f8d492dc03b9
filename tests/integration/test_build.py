"""Builds through the command line, on real trees, judged by what comes out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Program

pytestmark = pytest.mark.integration

Context = Callable[..., Path]


def members(archive: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(archive) as tar:
        return {member.name.removeprefix("./"): member for member in tar if member.name != "."}


def content(archive: Path, name: str) -> bytes:
    with tarfile.open(archive) as tar:
        file = tar.extractfile(members(archive)[name].name)
        assert file is not None
        return file.read()


def test_a_recipe_becomes_a_flat_tar(boxwright: Program, context: Context, busybox_base: Path, tmp_path: Path) -> None:
    place = context(
        f"FROM tar:{busybox_base}\n"
        "COPY data /srv/data\n"
        "RUN rm /srv/data/b && echo made > /srv/made && chmod 640 /srv/made\n"
        "WORKDIR /srv/work\n",
        {"data/a": "A", "data/b": "B"},
    )
    out = tmp_path / "out.tar"
    boxwright("build", place, "-q", "-o", f"tar:{out}")
    found = members(out)
    assert content(out, "srv/data/a") == b"A"
    assert content(out, "srv/made") == b"made\n"
    assert "srv/data/b" not in found
    assert found["srv/made"].mode == 0o640
    assert found["srv/work"].isdir()
    assert not [name for name in found if ".wh." in name]


def test_a_second_build_runs_nothing(boxwright: Program, context: Context, busybox_base: Path) -> None:
    place = context(f"FROM tar:{busybox_base}\nRUN echo {time.time_ns()} > /a\nRUN echo b > /b\n")
    first = boxwright("build", place, "-q").out
    second = boxwright("build", place, "--progress", "json")
    assert "started" not in second.out
    assert boxwright("build", place, "-q").out == first
    plan = boxwright("build", place, "--dry-run").out
    assert "RUN    " not in plan
    assert "CACHED" in plan


def test_edited_file_rebuilds_from_its_copy_on(boxwright: Program, context: Context, busybox_base: Path) -> None:
    recipe = f"FROM tar:{busybox_base}\nRUN echo {time.time_ns()}\nCOPY a /a\nRUN cat /a > /b\n"
    place = context(recipe, {"a": "one"})
    boxwright("build", place, "-q")
    (place / "a").write_text("two")
    plan = boxwright("build", place, "--dry-run").out.splitlines()
    assert [line.split()[0] for line in plan] == ["CACHED", "CACHED", "RUN", "RUN"]


def test_touched_file_rebuilds_nothing(boxwright: Program, context: Context, busybox_base: Path) -> None:
    place = context(f"FROM tar:{busybox_base}\nCOPY . /srv\n", {"a": "one"})
    first = boxwright("build", place, "-q").out
    os.utime(place / "a", (1, 1))
    assert boxwright("build", place, "-q").out == first


def test_incremental_copy_is_the_same_as_a_full_one(
    boxwright: Program, context: Context, busybox_base: Path, tmp_path: Path
) -> None:
    files = {f"d{number % 5}/f{number}": f"{number}" for number in range(50)}
    recipe = f"FROM tar:{busybox_base}\nCOPY . /srv\nRUN ls /srv > /listing\n"
    place = context(recipe, files)
    boxwright("build", place, "-q")
    (place / "d1/f1").write_text("changed")
    (place / "d9").mkdir()
    (place / "d9/new").write_text("new")
    incremental = boxwright("build", place, "-q").out
    assert boxwright.at(tmp_path / "other")("build", place, "-q").out == incremental
    (place / "d2/f2").unlink()
    shutil.rmtree(place / "d3")
    removed = boxwright("build", place, "-q", "-o", f"tar:{tmp_path / 'out.tar'}").out
    assert boxwright.at(tmp_path / "third")("build", place, "-q").out == removed
    names = members(tmp_path / "out.tar")
    assert "srv/d2/f2" not in names
    assert "srv/d3" not in names
    assert content(tmp_path / "out.tar", "srv/d1/f1") == b"changed"


def test_two_checkouts_give_one_identity(
    boxwright: Program, context: Context, busybox_base: Path, tmp_path: Path
) -> None:
    place = context(
        f"FROM tar:{busybox_base}\nCOPY . /srv\n", {"a": "one", "b/c": "two", ".dockerignore": ".git"}, name="origin"
    )
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], cwd=place, check=True)
    identities = []
    for name in ("one", "two"):
        subprocess.run(["git", "clone", "-q", place, tmp_path / name], check=True)
        identities.append(boxwright.at(tmp_path / f"store-{name}")("build", tmp_path / name, "-q").out)
        time.sleep(1.1)
    assert identities[0] == identities[1]


def test_setuid_and_users(boxwright: Program, context: Context, busybox_base: Path, tmp_path: Path) -> None:
    place = context(
        f"FROM tar:{busybox_base}\n"
        "RUN mkdir /opt && chmod 777 /opt\n"
        "USER app\n"
        "RUN id -u > /opt/uid && id -g > /opt/gid\n"
    )
    out = tmp_path / "out.tar"
    boxwright("build", place, "-q", "-o", f"tar:{out}")
    assert content(out, "opt/uid") == b"1000\n"
    assert members(out)["opt/uid"].uid == 1000
    assert members(out)["opt/uid"].gid == 1001


def test_copy_between_stages(boxwright: Program, context: Context, busybox_base: Path, tmp_path: Path) -> None:
    place = context(
        f"FROM tar:{busybox_base} AS build\n"
        "RUN mkdir -p /out/sub && echo x > /out/sub/x && ln -s sub/x /out/link && chmod 750 /out/sub\n"
        f"FROM tar:{busybox_base} AS unused\n"
        "RUN exit 1\n"
        "FROM scratch\n"
        "COPY --from=build /out /result\n"
        "COPY --from=0 --chown=5:6 --chmod=600 /out/sub/x /x\n"
    )
    out = tmp_path / "out.tar"
    boxwright("build", place, "-q", "-o", f"tar:{out}")
    found = members(out)
    assert sorted(found) == ["result", "result/link", "result/sub", "result/sub/x", "x"]
    assert found["result/link"].linkname == "sub/x"
    assert found["result/sub"].mode == 0o750
    assert (found["x"].uid, found["x"].gid, found["x"].mode) == (5, 6, 0o600)


def test_independent_stages_run_in_parallel(boxwright: Program, context: Context, busybox_base: Path) -> None:
    stages = "".join(
        f"FROM tar:{busybox_base} AS s{number}\nRUN sleep 1 && echo {time.time_ns()} > /f{number}\n"
        for number in range(8)
    )
    copies = "".join(f"COPY --from=s{number} /f{number} /f{number}\n" for number in range(8))
    place = context(f"{stages}FROM scratch\n{copies}")
    boxwright("build", context(f"FROM tar:{busybox_base}\n", name="warm"), "-q")
    assert boxwright("build", place, "-q").seconds < 7  # one after the other they take eight


def test_a_failed_step(boxwright: Program, context: Context, busybox_base: Path) -> None:
    place = context(f"FROM tar:{busybox_base}\n\nRUN echo words-of-the-step; exit 7\nRUN echo never\n")
    result = boxwright("build", place, "--progress", "plain", status=1)
    assert "words-of-the-step" in result.err
    assert "exit status 7" in result.err
    assert "Recipe:3" in result.err
    assert "> " in result.err
    assert "boxwright shell" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("recipe", "code", "line"),
    [
        ("FRM x\n", "recipe.unknown-instruction", 1),
        ("FROM tar:/nowhere/base.tar\n", "base.not-found", 1),
        ("FROM scratch\nCOPY missing /x\n", "copy.not-found", 2),
        ("", "recipe.no-from", 1),
    ],
)
def test_errors_say_where(boxwright: Program, context: Context, recipe: str, code: str, line: int) -> None:
    result = boxwright("build", context(recipe), status=None)
    assert result.status not in (0, 70)
    assert f"[{code}]" in result.err
    assert f"Recipe:{line}" in result.err
    assert "Traceback" not in result.err


def test_sixteen_builds_at_once(context: Context, busybox_base: Path, tmp_path: Path) -> None:
    program = Program(tmp_path / "store")
    places = [
        context(
            f"FROM tar:{busybox_base}\nRUN echo shared >> /shared; sleep 0.3\nRUN echo {number % 4} > /own\n",
            name=f"context{number}",
        )
        for number in range(16)
    ]
    running = [program.start("build", place, "--progress", "json") for place in places]
    outputs = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0] * 16, outputs
    identities = [json.loads(out.splitlines()[-1])["image"] for out, _ in outputs]
    assert len(set(identities)) == 4
    program("fsck")


@pytest.mark.long
def test_a_thousand_steps(boxwright: Program, context: Context, busybox_base: Path, tmp_path: Path) -> None:
    lines = "".join(f"RUN echo {number} >> /log\n" for number in range(1000))
    place = context(f"FROM tar:{busybox_base}\n{lines}")
    out = tmp_path / "out.tar"
    boxwright("build", place, "-q", "--network", "none", "-o", f"tar:{out}")
    assert content(out, "log").decode().split() == [str(number) for number in range(1000)]


@pytest.mark.parametrize("progress", ["plain", "json"])
def test_nobody_reads_the_progress(boxwright: Program, context: Context, busybox_base: Path, progress: str) -> None:
    """As with `boxwright build | head -1`: the build ends."""
    steps = "".join(f"RUN echo {time.time_ns()} {number}\n" for number in range(20))
    place = context(f"FROM tar:{busybox_base}\n{steps}")
    with boxwright.start("build", place, "--progress", progress, "--network", "none") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stderr.close()
        assert process.wait(60) == 1
