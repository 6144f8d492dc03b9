"""RUN mounts, secrets, agents, caches and limits, through the command line."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.conftest import APPLETS, ORDINARY_USER, Program, remove_tree

pytestmark = pytest.mark.integration

MakeContext = Callable[..., Path]
SECRET = "correct-horse-battery-staple"
MORE = [*APPLETS, "cp", "cut", "grep", "head", "hostname", "mknod", "mount", "mv", "rmdir", "sort", "tr", "wc"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system of busybox, with links that lead astray."""
    root = tmp_path_factory.mktemp("mounts-base") / "root"
    for name in ("bin", "etc", "tmp", "proc", "dev", "sys", "cache"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in MORE:
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\napp:x:1001:\n")
    (root / "link").symlink_to("/cache")
    (root / "up").symlink_to("../../../../../../cache/up")
    (root / "astray").symlink_to("/proc/self/cwd")
    (root / "fd").symlink_to("/proc/self/fd")
    (root / "into-proc").symlink_to("/proc/sys")
    (root / "loop").symlink_to("loop")
    (root / "file").write_text("a file")
    archive = root.parent / "base.tar"
    subprocess.run(["tar", "--owner=0", "--group=0", "--mtime=@1000000", "-C", root, "-cf", archive, "."], check=True)
    return archive


class Build:
    """Builds below one base; `tree` is what an exported image holds."""

    def __init__(self, program: Program, place: Path, base: Path) -> None:
        self.program = program
        self.place = place
        self.base = base
        self.number = 0

    def context(self, recipe: str, files: Mapping[str, str] | None = None) -> Path:
        self.number += 1
        directory = self.place / f"context-{self.number}"
        directory.mkdir(parents=True)
        for name, text in {"Recipe": f"FROM tar:{self.base}\n{recipe}", **(files or {})}.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(text)
        if self.program.user:
            subprocess.run(["chown", "-R", f"{self.program.user}:", directory], check=True)
        return directory

    def run(self, context: Path, *options: str | Path, status: int | None = 0) -> str:
        result = self.program("build", context, "--network", "none", "--progress", "plain", *options, status=status)
        return result.out + result.err

    def says(
        self, recipe: str, *options: str | Path, files: Mapping[str, str] | None = None, status: int | None = 0
    ) -> str:
        return self.run(self.context(recipe, files), *options, status=status)

    def tree(self, context: Path, *options: str | Path) -> dict[str, tarfile.TarInfo]:
        out = context.parent / f"{context.name}.tar"
        self.run(context, "-o", f"tar:{out}", *options)
        with tarfile.open(out) as tar:
            return {member.name.removeprefix("./"): member for member in tar}


@pytest.fixture
def build(fresh_boxwright: Program, tmp_path: Path, base: Path) -> Build:
    return Build(fresh_boxwright, tmp_path, base)


@pytest.fixture
def ordinary_build(ordinary_home: Path, base: Path) -> Iterator[Build]:
    place = ordinary_home.parent / "mounts"
    place.mkdir()
    shutil.copy(base, place / "base.tar")
    shutil.chown(place, ORDINARY_USER, ORDINARY_USER)
    yield Build(Program(place / "store", user=ORDINARY_USER), place, place / "base.tar")
    remove_tree(place)


both = pytest.mark.parametrize(
    "who", ["build", pytest.param("ordinary_build", marks=pytest.mark.ordinary_user)], ids=["root", "ordinary"]
)


@pytest.fixture
def builder(who: str, request: pytest.FixtureRequest) -> Build:
    found = request.getfixturevalue(who)
    assert isinstance(found, Build)
    return found


# Bind ----------------------------------------------------------------------------------------------------------------


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


# Targets -------------------------------------------------------------------------------------------------------------


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


# Secrets -------------------------------------------------------------------------------------------------------------


def grep_all(directory: Path, needle: bytes) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and needle in path.read_bytes()]


@both
def test_secret_is_nowhere_afterwards(builder: Build) -> None:
    secret = builder.place / "secret"
    secret.write_text(f"{SECRET}\n")
    secret.chmod(0o644)
    recipe = (
        "USER app\n"
        "RUN --mount=type=secret,id=s,mode=0440,uid=1000,gid=1001 stat -c '%a %u:%g' /run/secrets/s; "
        "wc -c < /run/secrets/s; echo x > /run/secrets/s || echo read-only; "
        "grep ' /run/secrets/s ' /proc/mounts | cut -d' ' -f3; cat /run/secrets/s\n"
        "USER root\n"
        "RUN --mount=type=secret,id=s,target=/etc/key --mount=type=secret,id=v,env=TOKEN stat -c %a /etc/key; "
        "echo ${#TOKEN}; echo token=$TOKEN; env | sort\n"
        "RUN ls /run /etc/key; echo TOKEN=$TOKEN.; exit 0\n"
    )
    context = builder.context(recipe)
    builder.program = builder.program.with_environment(VARIABLE=f"{SECRET}-2")
    given = ["--secret", f"id=s,src={secret}", "--secret", "id=v,env=VARIABLE"]
    said = builder.run(context, *given)
    assert "440 1000:1001" in said
    assert f"{len(SECRET) + 1}" in said
    assert "read-only" in said
    assert "tmpfs" in said
    assert "400" in said
    assert f"{len(SECRET) + 2}" in said
    assert "TOKEN=." in said
    assert SECRET not in said
    assert "***" in said
    assert SECRET not in json.dumps([builder.program("why", context, "--all", "--json", *given[:2]).out])
    secret.write_text("another one")
    assert "CACHED [stage-0] RUN" in builder.run(context, *given)
    assert grep_all(builder.program.home, SECRET.encode()) == []
    assert not {"run/secrets", "etc/key"} & builder.tree(context, *given).keys()


def test_secret_that_is_not_given(build: Build) -> None:
    said = build.says("RUN --mount=type=secret,id=s test ! -e /run/secrets/s && echo without\n")
    assert "without" in said
    said = build.says("RUN --mount=type=secret,id=s,required true\n", status=1)
    assert "[secret.missing]" in said
    assert "--secret id=s" in said


def test_secret_in_the_key_where_asked(build: Build) -> None:
    secret = build.place / "secret"
    secret.write_text(SECRET)
    context = build.context("RUN --mount=type=secret,id=s cat /run/secrets/s\n")
    given = ["--secret", f"id=s,src={secret}", "--secret-in-key"]
    build.run(context, *given)
    assert "CACHED [stage-0] RUN" in build.run(context, *given)
    reasons = build.program("why", context, "--network", "none", *given).out
    assert reasons.startswith("0 of")
    secret.write_text(f"{SECRET}!")
    assert "secrets changed: s\n" in build.program("why", context, "--network", "none", *given).out
    assert "CACHED [stage-0] RUN" not in build.run(context, *given)
    assert grep_all(build.program.home, SECRET.encode()) == []
    other = build.program.at(build.place / "other-store")
    keys = {
        json.loads(program("build", context, "--network", "none", "--progress", "json", *given).out.splitlines()[0])[
            "steps"
        ][-1]["key"]
        for program in (build.program, other)
    }
    assert len(keys) == 2, "another store has another key for its hashes"
    remove_tree(other.home)


@pytest.mark.parametrize(
    "given", ["src=x", "id=s,src=/nowhere", "id=s,env=NOT_THERE", "id=s,type=dir,src=x", "id=s,mode=1", "id"]
)
def test_wrong_secret(build: Build, given: str) -> None:
    assert "[usage.secret]" in build.says("RUN true\n", "--secret", given, status=2)


# SSH -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ssh_base(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base with ssh-add."""
    root = tmp_path_factory.mktemp("ssh-base") / "root"
    (root / "bin").mkdir(parents=True)
    subprocess.run(["tar", "-C", root, "-xf", base], check=True)
    said = subprocess.run(["ldd", "/usr/bin/ssh-add"], capture_output=True, text=True, check=True).stdout
    for library in [word for word in said.split() if word.startswith("/")]:
        (root / library.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, root / library.lstrip("/"))
    shutil.copy("/usr/bin/ssh-add", root / "bin/ssh-add")
    archive = root.parent / "base.tar"
    subprocess.run(["tar", "--owner=0", "--group=0", "--mtime=@1000000", "-C", root, "-cf", archive, "."], check=True)
    return archive


def make_key(place: Path, name: str, passphrase: str = "") -> Path:
    key = place / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", name, "-f", key], check=True)
    return key


@both
def test_ssh_with_keys(builder: Build, ssh_base: Path) -> None:
    shutil.copy(ssh_base, builder.place / "base.tar")
    builder.base = builder.place / "base.tar"
    keys = [make_key(builder.place, name) for name in ("first", "second")]
    if builder.program.user:
        for key in keys:
            shutil.chown(key, builder.program.user)
    recipe = (
        "RUN --mount=type=ssh ssh-add -l; ssh-add -D && exit 9; ssh-add -l | wc -l; echo at $SSH_AUTH_SOCK\n"
        "USER app\n"
        "RUN --mount=type=ssh,id=other,mode=0600,uid=1000,target=/s stat -c '%a %u %F' /s; ssh-add -l\n"
        "RUN --mount=type=ssh ssh-add -l || echo not mine\n"
    )
    context = builder.context(recipe)
    said = builder.run(context, "--ssh", f"default={keys[0]},{keys[1]}", "--ssh", f"other={keys[1]}")
    assert "first (ED25519)" in said
    assert "second (ED25519)" in said
    assert "600 1000 socket" in said
    assert "not mine" in said
    assert "at /run/buildkit/ssh_agent.0" in said
    assert not {"run/buildkit", "s"} & builder.tree(context).keys()
    assert grep_all(builder.program.home, keys[0].read_bytes().splitlines()[2]) == []


def test_agents_end_with_a_killed_build(build: Build) -> None:
    """The fixture that looks for processes afterwards sees to it."""
    key = make_key(build.place, "key")
    context = build.context("RUN --mount=type=ssh,target=/s test -S /s && echo there && sleep 30\n")
    with build.program.start(
        "build", context, "--network", "none", "--progress", "plain", "--ssh", f"default={key}"
    ) as process:
        assert process.stderr is not None
        while (line := process.stderr.readline()) != "#2 there\n":
            assert line, "it ended"
        directories = set(Path(tempfile.gettempdir()).glob("boxwright-ssh-*"))
        process.kill()
    assert directories
    deadline = time.monotonic() + 5
    while any(directory.exists() for directory in directories):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ssh_of_the_user(build: Build, ssh_base: Path) -> None:
    build.base = ssh_base
    path = str(build.place / "agent")
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as agent:
        while not os.path.exists(path):
            threading.Event().wait(0.01)
        key = make_key(build.place, "mine")
        subprocess.run(["ssh-add", "-q", key], env={**os.environ, "SSH_AUTH_SOCK": path}, check=True)
        build.program = build.program.with_environment(SSH_AUTH_SOCK=path)
        said = build.says("RUN --mount=type=ssh,required ssh-add -l\n", "--ssh", "default")
        agent.terminate()
    assert "mine (ED25519)" in said


def test_ssh_that_is_not_given(build: Build) -> None:
    assert "without" in build.says("RUN --mount=type=ssh test ! -S $SSH_AUTH_SOCK && echo without\n")
    assert "[ssh.missing]" in build.says("RUN --mount=type=ssh,required true\n", status=1)
    assert "[usage.ssh]" in build.says("RUN true\n", "--ssh", "default=/nowhere", status=2)
    locked = make_key(build.place, "locked", "passphrase")
    assert "[ssh.key]" in build.says("RUN --mount=type=ssh true\n", "--ssh", f"default={locked}", status=1)


# Caches --------------------------------------------------------------------------------------------------------------


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


# Limits and entitlements ---------------------------------------------------------------------------------------------


@both
def test_conditions(builder: Build) -> None:
    recipe = "RUN grep example /etc/hosts; ulimit -n; ulimit -Hn; stat -f -c '%b' /dev/shm; grep -c . /etc/hosts\n"
    context = builder.context(recipe)
    given = [
        "--add-host",
        "example:192.0.2.7",
        "--add-host",
        "six=[2001:db8::1]",
        "--ulimit",
        "nofile=100:200",
        "--shm-size",
        "1m",
    ]
    said = builder.run(context, *given)
    assert "192.0.2.7 example" in " ".join(said.split())
    for text in ("#2 100", "#2 200", "#2 256"):
        assert text in said
    assert "CACHED [stage-0] RUN" in builder.run(context, *given)
    assert "CACHED [stage-0] RUN" in builder.run(context, "--add-host", "example:192.0.2.8", *given[2:])
    assert "CACHED [stage-0] RUN" not in builder.run(context, *given[:6], "--shm-size", "2m")


@pytest.mark.parametrize(
    ("option", "code"),
    [
        (("--ulimit", "nofiles=1"), "usage.ulimit"),
        (("--ulimit", "nofile=2:1"), "usage.ulimit"),
        (("--ulimit", "nofile=x"), "usage.ulimit"),
        (("--add-host", "x"), "usage.add-host"),
        (("--add-host", "x:host-gateway"), "usage.add-host"),
        (("--add-host", "a b:1.2.3.4"), "usage.add-host"),
        (("--shm-size", "-1"), "usage.size"),
        (("--allow", "everything"), "usage.allow"),
    ],
)
def test_wrong_conditions(build: Build, option: tuple[str, str], code: str) -> None:
    assert f"[{code}]" in build.says("RUN true\n", *option, status=2)


def hierarchies() -> list[Path]:
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [Path(line[4]) for line in lines if line[line.index("-") + 1] in ("cgroup", "cgroup2") and line[3] == "/"]


def test_cgroup_parent(build: Build) -> None:
    name = f"boxwright-test-{os.getpid()}"
    context = build.context("RUN sleep 1; cat /proc/self/cgroup\n")
    with build.program.start("build", context, "--network", "none", "--cgroup-parent", f"/{name}/below") as process:
        seen: set[str] = set()
        while process.poll() is None and not seen:
            seen = {str(place) for place in hierarchies() for _ in place.glob(f"{name}/below/boxwright-*")}
            threading.Event().wait(0.02)
        _, err = process.communicate()
    assert process.returncode == 0, err
    assert seen
    assert not any((place / name).exists() for place in hierarchies())
    assert "CACHED [stage-0] RUN" in build.run(context), "it doesn't count"
    assert "[usage.cgroup-parent]" in build.says("RUN echo 1\n", "--cgroup-parent", "/a/../b", status=2)


@pytest.mark.ordinary_user
def test_cgroup_parent_of_others(ordinary_build: Build) -> None:
    said = ordinary_build.says("RUN true\n", "--cgroup-parent", "/nobody", status=3)
    assert "[machine.cgroup]" in said


def test_entitlements(build: Build) -> None:
    insecure = build.context("RUN --security=insecure mount -t tmpfs none /tmp && grep CapEff /proc/self/status\n")
    said = build.run(insecure, status=2)
    assert "[build.not-allowed]" in said
    assert "--allow security.insecure" in said
    assert "Recipe:2" in said
    assert "CapEff" in build.run(insecure, "--allow", "security.insecure")
    assert "[build.not-allowed]" not in build.run(insecure, "--dry-run")
    host = build.context("RUN --network=host echo ran\n")
    assert "[build.not-allowed]" in build.run(host, "--allow", "security.insecure", status=2)
    assert "ran" in build.run(host, "--allow", "network.host,security.insecure")
    program = build.program
    program("build", build.context("RUN echo by-the-option\n"), "--network", "host")
    program("build", build.context("RUN --network=host echo also\n"), "--network", "host")


def test_network_none_has_no_network(build: Build) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    said = build.says("RUN --network=none cat /proc/net/dev | grep -c :\n")
    listening.close()
    assert "#2 1" in said


def test_no_cache_filter(build: Build) -> None:
    recipe = (
        "RUN echo zero\n"
        f"FROM tar:{build.base} AS tools\nRUN echo tools > /t\n"
        f"FROM tar:{build.base} AS app\nRUN echo before\nCOPY --from=tools /t /t\nRUN cat /t\n"
    )
    context = build.context(recipe)
    build.run(context)
    said = build.run(context, "--no-cache-filter", "Tools,other")
    assert "DONE" in said
    assert "CACHED [tools] RUN" not in said
    assert "CACHED [app] RUN echo before" in said
    assert "CACHED [app] RUN cat" not in said
    assert "no such stage" in said
    assert "CACHED [app] RUN cat" in build.run(context)
