"""RUN --mount=type=bind and tmpfs: what is seen, and that no target leads out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.mounts.conftest import SECRET, Build, both

pytestmark = pytest.mark.integration


@both
def test_bind_of_the_context(builder: Build) -> None:
    files = {
        "src/a": "one\n",
        "src/deep/b": "two\n",
        "other": "three\n",
        ".dockerignore": "src/hidden\n",
        "src/hidden": "x",
    }
    recipe = (
        "RUN --mount=target=/m cat /m/src/a /m/other; ls /m/src; touch /m/new || echo read-only\n"
        "WORKDIR /w\n"
        "RUN --mount=type=bind,source=src/deep,target=rel ls /w/rel > /seen; stat -c %u:%g /w/rel/b\n"
        "RUN --mount=type=bind,src=src/a,dst=/f cat /f; stat -c %F /f\n"
    )
    context = builder.context(recipe, files)
    said = builder.run(context)
    assert "one" in said
    assert "three" in said
    assert "read-only" in said
    assert "hidden" not in said
    assert "0:0" in said
    assert "regular file" in said
    tree = builder.tree(context)
    assert {"seen", "w"} <= tree.keys()
    assert not {"m", "w/rel", "f"} & tree.keys()


def test_only_what_is_bound_counts(build: Build) -> None:
    files = {"src/a": "one\n", "other": "two\n", ".dockerignore": "src/hidden\nRecipe\n"}
    context = build.context("RUN --mount=source=src,target=/m cat /m/a\n", files)
    build.run(context)
    (context / "other").write_text("changed")
    (context / "src/hidden").write_text("changed")
    os.utime(context / "src/a", (1, 1))
    assert "CACHED [stage-0] RUN" in build.run(context)
    (context / "src/a").write_text("new\n")
    assert "what is mounted changed: /m\n" in build.program("why", context, "--network", "none").out
    said = build.run(context)
    assert "CACHED [stage-0] RUN" not in said
    assert "new" in said
    (context / "src/a").chmod(0o755)
    assert "CACHED [stage-0] RUN" not in build.run(context)


@both
def test_bind_from_a_stage(builder: Build) -> None:
    context = builder.context(
        "RUN mkdir -p /out/sub && echo made > /out/sub/x && ln -s sub/x /out/link && chown 7:8 /out/sub\n"
        "RUN echo second > /out/y && rm /file\n"
        f"FROM tar:{builder.base}\n"
        "RUN --mount=from=0,source=/out,target=/o cat /o/sub/x /o/y /o/link; stat -c %u:%g /o/sub; touch /o/z || true\n"
        "RUN --mount=from=0,target=/whole test ! -e /whole/file && test ! -e /whole/proc/self && ls /whole\n"
        "RUN --mount=from=0,source=/out/link,target=/f cat /f\n"
    )
    said = builder.run(context)
    assert "made" in said
    assert "second" in said
    assert "7:8" in said
    assert not {"o", "whole", "f", "x"} & builder.tree(context).keys()


@both
def test_writes_to_a_bind_are_thrown_away(builder: Build) -> None:
    recipe = (
        "RUN --mount=target=/m,rw echo changed > /m/a && mkdir /m/d && rm /m/b && cat /m/a && ls /m\n"
        "RUN --mount=target=/m cat /m/a /m/b\n"
        "RUN --mount=from=base,target=/o,readwrite echo x > /o/file && cat /o/file\n"
        "RUN --mount=from=base,target=/o cat /o/file\n"
    )
    context = builder.context(recipe, {"a": "first\n", "b": "second\n"})
    text = (context / "Recipe").read_text()
    (context / "Recipe").write_text(f"FROM tar:{builder.base} AS base\n{text}")
    said = builder.run(context)
    assert said.index("changed\n") < said.index(" first\n") < said.index(" second\n") < said.index(" x\n")
    assert "a file" in said
    assert (context / "a").read_text() == "first\n"
    assert not (context / "d").exists()


def test_bind_from_an_image_counts_by_content(build: Build) -> None:
    build.run(build.context("RUN echo 1 > /data\n"), "-t", "tools")
    user = build.context("RUN --mount=from=tools,source=/data,target=/d cat /d\n")
    build.run(user)
    build.run(build.context("RUN echo other > /more\nRUN echo 1 > /data\n"), "-t", "tools")
    assert "CACHED [stage-0] RUN" in build.run(user)
    build.run(build.context("RUN echo 2 > /data\n"), "-t", "tools")
    assert "CACHED [stage-0] RUN" not in build.run(user)


@pytest.mark.parametrize("source", ["../secret", "/../secret", "away/secret", "abs", "a/../../secret", "missing"])
def test_a_bind_stays_in_its_context(build: Build, source: str) -> None:
    context = build.context(f"RUN --mount=source={source},target=/m cat /m\n", {"a/x": "y"})
    (context.parent / "secret").write_text(SECRET)
    (context / "away").symlink_to("..")
    (context / "abs").symlink_to(context.parent / "secret")
    said = build.run(context, status=1)
    assert "[mount.not-found]" in said
    assert SECRET not in said


def test_links_in_a_context_lead_inside_it(build: Build) -> None:
    context = build.context(
        "RUN --mount=source=l,target=/m cat /m/x; cat /m/out || echo nothing\n", {"a/x": "inside\n"}
    )
    (context / "l").symlink_to("/a")
    (context.parent / "secret").write_text(SECRET)
    (context / "a/out").symlink_to(context.parent / "secret")
    said = build.run(context)
    assert "inside" in said
    assert "nothing" in said
    assert SECRET not in said


KINDS = pytest.mark.parametrize("kind", ["type=tmpfs", "type=cache", "type=bind", "type=secret,id=s"])


@KINDS
@pytest.mark.parametrize(
    "target", ["/astray/boxwright-was-here", "/fd/4/boxwright-was-here", "/fd/7/boxwright-was-here"]
)
def test_targets_never_lead_out(build: Build, kind: str, target: str) -> None:
    """`/astray` is a link to /proc/self/cwd, which is the host's root while mounts are made; `/fd` to descriptors."""
    secret = build.place / "s"
    secret.write_text(SECRET)
    build.says(f"RUN --mount={kind},target={target} echo ran\n", "--secret", f"id=s,src={secret}", status=None)
    assert not Path("/boxwright-was-here").exists()


@KINDS
@pytest.mark.parametrize("target", ["/into-proc/x", "/proc/x", "/proc", "/loop/x"])
def test_nothing_is_mounted_in_proc(build: Build, kind: str, target: str) -> None:
    secret = build.place / "s"
    secret.write_text(SECRET)
    said = build.says(f"RUN --mount={kind},target={target} echo ran\n", "--secret", f"id=s,src={secret}", status=1)
    assert "[sandbox.mount-point]" in said


def test_links_among_files_of_the_sandbox(build: Build) -> None:
    """/etc/hosts of an image may be a link; the file it names must not be made on the host."""
    context = build.context("RUN rm -f /etc/hosts && ln -s /proc/self/cwd/boxwright-was-here /etc/hosts; exit 0\n")
    first = build.context("", {"hosts": ""})
    os.remove(first / "hosts")
    (first / "hosts").symlink_to("/proc/self/cwd/boxwright-was-here")
    (first / "Recipe").write_text(f"FROM tar:{build.base}\nCOPY hosts /etc/hosts\nRUN echo ran\n")
    build.run(first, status=None)
    assert not Path("/boxwright-was-here").exists()
    build.run(context, status=None)
    assert not Path("/boxwright-was-here").exists()


@both
def test_targets_through_links_leave_nothing(builder: Build) -> None:
    recipe = (
        "RUN --mount=type=tmpfs,target=/link/in --mount=type=tmpfs,target=/a/b/c --mount=type=tmpfs,target=/up "
        "--mount=type=cache,target=/a/b/cache touch /a/b/c/x /link/in/y /up/z /a/b/cache/k\n"
        "RUN --mount=type=tmpfs,target=/kept/sub touch /kept/beside\n"
    )
    tree = builder.tree(builder.context(recipe))
    assert {name for name in tree if name.split("/")[0] in {"a", "cache", "kept"}} == {"cache", "kept", "kept/beside"}
    before = builder.tree(builder.context(""))
    assert tree["cache"].mtime == before["cache"].mtime


def test_mount_point_of_the_wrong_kind(build: Build) -> None:
    assert "[sandbox.mount-point]" in build.says("RUN --mount=type=tmpfs,target=/file true\n", status=1)
    assert "[sandbox.mount-point]" in build.says("RUN --mount=type=tmpfs,target=/file/below true\n", status=1)
    said = build.says("RUN --mount=source=a,target=/cache true\n", files={"a": "x"}, status=1)
    assert "[sandbox.mount-point]" in said
    said = build.says("RUN --mount=target=/m --mount=type=tmpfs,target=/m/none true\n", status=1)
    assert "[sandbox.mount-point]" in said


def test_mounts_below_mounts(build: Build) -> None:
    said = build.says(
        "RUN --mount=type=tmpfs,target=/m/sub --mount=target=/m "
        "--mount=type=cache,target=/c/d --mount=type=tmpfs,target=/c touch /m/sub/new && cat /m/a && ls /c\n",
        files={"a": "outer\n", "sub/b": "hidden"},
    )
    assert "outer" in said


def test_tmpfs_size(build: Build) -> None:
    said = build.says(
        "RUN --mount=type=tmpfs,target=/t,size=64k stat -f -c '%b %S' /t; stat -c %a /t; "
        "head -c 100000 /dev/zero > /t/x || echo full\n"
    )
    assert "16 4096" in said
    assert "1777" in said
    assert "full" in said
