"""RUN --mount=type=cache: whose they are, how they are shared, and how they are removed."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import threading

import pytest

from tests.integration.mounts.conftest import Build, both

pytestmark = pytest.mark.integration


@both
def test_cache_survives_and_belongs_to_its_user(builder: Build) -> None:
    recipe = (
        "ARG n=\nUSER app\n"
        "RUN --mount=type=cache,target=/c,uid=1000,gid=1001,mode=0700 "
        "cat /c/n; echo $n > /c/n; stat -c '%a %u:%g' /c /c/n\n"
    )
    context = builder.context(recipe)
    first = builder.run(context, "--build-arg", "n=one")
    assert "700 1000:1001" in first
    assert "644 1000:1001" in first
    second = builder.run(context, "--build-arg", "n=two")
    assert "#2 one" in second
    assert "c" not in builder.tree(context, "--build-arg", "n=two")


def test_caches_by_name_owner_and_seed(build: Build) -> None:
    recipe = (
        "RUN mkdir /seed && echo seeded > /seed/s && ln /seed/s /seed/hard && ln -s s /seed/soft && chown 5:6 /seed/s\n"
        f"FROM tar:{build.base}\n"
        "RUN --mount=type=cache,id=a/../../b,target=/c echo x > /c/x\n"
        "RUN --mount=type=cache,id=a/../../b,target=/d --mount=type=cache,target=/e,id=z ls /d /e\n"
        "RUN --mount=type=cache,id=a/../../b,target=/c,uid=7 ls /c | wc -l\n"
        "RUN --mount=type=cache,id=k,target=/c,from=0,source=/seed cat /c/s /c/hard /c/soft; stat -c '%u:%g %h' /c/s; "
        "echo more >> /c/s\n"
        "RUN --mount=type=cache,id=k,target=/c,from=0,source=/seed,ro cat /c/s; touch /c/n || echo ro\n"
        "RUN --mount=from=0,source=/seed,target=/m cat /m/s\n"
    )
    said = build.says(recipe)
    assert "5:6 2" in said
    assert "more" in said
    assert "ro" in said
    assert said.count("seeded") >= 4
    listed = json.loads(build.program("cache", "list", "--json").out)
    assert sorted((item["name"], item["uid"]) for item in listed) == [
        ("a/../../b", 0),
        ("a/../../b", 7),
        ("k", 0),
        ("z", 0),
    ]
    assert not (build.place / "b").exists()
    assert sorted(os.listdir(build.program.home / "caches")) == sorted(item["key"] for item in listed)


RACE = (
    "ARG n=\nRUN --mount=type=cache,target=/c,id={id},sharing={sharing} "
    "echo in-$n >> /c/log; sleep 0.7; echo out-$n >> /c/log; cat /c/log\n"
)


def both_at_once(build: Build, sharing: str) -> list[str]:
    context = build.context(RACE.format(id=sharing, sharing=sharing))
    build.says("RUN true\n")
    running = [
        build.program.start("build", context, "--network", "none", "--build-arg", f"n={n}", "--progress", "plain")
        for n in "12"
    ]
    said = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    return [" ".join(word for word in err.split() if word in {"in-1", "in-2", "out-1", "out-2"}) for _, err in said]


def test_locked_caches_wait(build: Build) -> None:
    first, second = sorted(both_at_once(build, "locked"), key=len)
    assert first in ("in-1 out-1", "in-2 out-2")
    assert second == f"{first} {'in-2 out-2' if '1' in first else 'in-1 out-1'}"


def test_shared_caches_are_used_at_once(build: Build) -> None:
    said = both_at_once(build, "shared")
    assert any(text.startswith(("in-1 in-2", "in-2 in-1")) for text in said)


def test_private_caches_are_each_ones_own(build: Build) -> None:
    assert sorted(both_at_once(build, "private")) == ["in-1 out-1", "in-2 out-2"]
    assert len(json.loads(build.program("cache", "list", "--json").out)) == 1


@both
def test_cache_command(builder: Build) -> None:
    program, place = builder.program, builder.place
    seed = place / "seed"
    seed.mkdir()
    (seed / "given").write_text("from outside")
    if program.user:
        subprocess.run(["chown", "-R", f"{program.user}:", seed], check=True)
    program("cache", "import", "tools", seed)
    said = builder.says(
        "RUN --mount=type=cache,id=tools,target=/c cat /c/given; stat -c %u:%g /c/given; echo new > /c/new\n"
    )
    assert "from outside" in said
    assert "0:0" in said
    assert "tools" in program("cache", "list").out
    program("cache", "export", "tools", place / "out")
    assert (place / "out/new").read_text() == "new\n"
    program("cache", "export", "tools", place / "out.tar")
    with tarfile.open(place / "out.tar") as tar:
        assert {"./given", "./new"} <= set(tar.getnames())
    program("cache", "import", "again", place / "out.tar")
    assert "new" in builder.says("RUN --mount=type=cache,id=again,target=/c cat /c/new\n")
    assert "[cache.unknown]" in program("cache", "export", "none", place / "n", status=1).err
    assert "[cache.destination]" in program("cache", "export", "tools", place / "out", status=1).err
    program("cache", "clear", "tools")
    assert [item["name"] for item in json.loads(program("cache", "list", "--json").out)] == ["again"]
    program("cache", "clear", "--all")
    assert json.loads(program("cache", "list", "--json").out) == []


def test_gc_counts_and_removes_caches(build: Build) -> None:
    build.says("RUN --mount=type=cache,id=big,target=/c head -c 5000000 /dev/zero > /c/zeros\n", "-t", "kept")
    before = json.loads(build.program("gc", "--dry-run", "--json").out)
    assert before["before"] > 5_000_000
    assert before["caches"] == 0
    assert json.loads(build.program("gc", "--max-size", "4MB", "--json").out)["caches"] == 1
    assert json.loads(build.program("cache", "list", "--json").out) == []
    assert os.listdir(build.program.home / "caches") == []
    build.says("RUN --mount=type=cache,id=big,target=/c touch /c/again\n")


def test_a_build_keeps_the_limit_with_its_caches(build: Build) -> None:
    build.program = build.program.with_environment(BOXWRIGHT_STORE_LIMIT="8MB")
    build.says("RUN --mount=type=cache,id=old,target=/c head -c 5000000 /dev/zero > /c/zeros\n")
    build.says("RUN --mount=type=cache,id=new,target=/c head -c 5000000 /dev/zero > /c/zeros\n")
    listed = json.loads(build.program("cache", "list", "--json").out)
    assert sum(item["size"] for item in listed) < 8_000_000


@pytest.mark.ordinary_user
def test_store_of_an_ordinary_user_in_its_own_place(ordinary_build: Build) -> None:
    """Not that of the system, though the user is root of a namespace when the limit is looked at."""
    home = str(ordinary_build.place)
    ordinary_build.program = ordinary_build.program.with_environment(BOXWRIGHT_HOME="", XDG_DATA_HOME=home)
    ordinary_build.says("RUN --mount=type=cache,target=/c echo x > /c/x\n")
    assert (ordinary_build.place / "boxwright/index.db").exists()


def test_gc_leaves_a_cache_in_use(build: Build) -> None:
    context = build.context("RUN --mount=type=cache,id=busy,target=/c echo x > /c/x; sleep 2; cat /c/x\n")
    with build.program.start("build", context, "--network", "none") as process:
        while not list((build.program.home / "caches").glob("*/0/x")):
            assert process.poll() is None
            threading.Event().wait(0.02)
        assert json.loads(build.program("gc", "--all", "--json").out)["caches"] == 0
        assert "[cache.in-use]" in build.program("cache", "clear", "busy", status=1).err
        _, err = process.communicate()
    assert process.returncode == 0, err
