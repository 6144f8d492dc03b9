"""RUN --mount=type=secret and ssh: there for the step, nowhere afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import remove_tree
from tests.integration.mounts.conftest import SECRET, Build, both

pytestmark = pytest.mark.integration


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
