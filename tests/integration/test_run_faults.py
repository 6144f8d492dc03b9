"""Containers when something goes wrong: kills, signals, damaged records, missing layers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.integration.conftest import Run, until

pytestmark = pytest.mark.integration

TRAP = "trap 'echo asked; exit 9' {}; echo ready; while :; do sleep 0.05; done"


def process_of(program: Program, name: str) -> int:
    """The host's id of a running container's first process."""
    listed = {container["name"]: container["pid"] for container in json.loads(program("ps", "--json").out)}
    return int(listed[name])


def state(pid: int) -> str:
    """As in ps(1), its parent's id beside it; empty where it is gone. Nobody may reap it: a zombie is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in "ZX" else f"{fields[0]} {fields[1]}"


def parent_of(pid: int) -> int:
    return int(state(pid).split()[1])


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def mounted_anywhere(path: Path) -> set[str]:
    """Processes in whose mount namespace something of `path` is mounted."""
    found = set()
    for place in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            if str(path) in place.read_text():
                found.add(place.parent.name)
        except OSError:
            continue  # it has ended meanwhile
    return found


# Signals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", [(), ("--init",)], ids=["plain", "init"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_handed_on(boxes: Program, number: signal.Signals, init: tuple[str, ...]) -> None:
    script = TRAP.format(number.name.removeprefix("SIG"))
    with boxes.start("run", "--rm", *init, "--network=none", "tool", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (9, "asked\n", "")
    assert boxes("ps", "-aq").out == ""


@pytest.mark.parametrize("user", ["root", "app"])
def test_a_first_process_that_would_not_notice_is_killed(either: Program, user: str) -> None:
    with either.start("run", "--rm", "--network=none", "-u", user, "--name", "deaf", "tool", "sleep", "60") as process:
        until(lambda: either("ps", "-q").out == "deaf\n")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
    assert process.returncode == 137
    assert either("ps", "-aq").out == ""


def test_the_images_stop_signal(boxes: Program, tmp_path: Path) -> None:
    place = tmp_path / "stop"
    place.mkdir()
    (place / "Recipe").write_text("FROM tool\nSTOPSIGNAL SIGUSR2\n")
    boxes("build", place, "-q", "-t", "stopped")
    boxes("run", "-d", "--name", "s", "--network=none", "stopped", "sh", "-c", TRAP.format("USR2"))
    until(lambda: boxes("logs", "s").out == "ready\n")
    boxes("stop", "s")
    assert boxes("logs", "s").out == "ready\nasked\n"
    assert json.loads(boxes("ps", "-a", "--json").out)[0]["exit_code"] == 9


# Kills ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("--rm",), ("--rm", "--init", "-u", "app")], ids=["root", "app"])
def test_a_killed_run_takes_its_container_along(either: Program, words: tuple[str, ...]) -> None:
    script = "sleep 60 & sleep 60"
    with either.start("run", *words, "--network=none", "--name", "long", "tool", "sh", "-c", script) as process:
        until(lambda: either("ps", "-q").out == "long\n")
        first = process_of(either, "long")
        keeper = parent_of(first)
        guards = children_of(process.pid)
        assert guards
        process.kill()
        process.communicate(timeout=10)
    until(lambda: not any(map(state, (first, keeper, *guards))))
    until(lambda: not mounted_anywhere(either.home / "containers"))
    until(lambda: either("ps", "-aq").out == "")
    assert not (either.home / "containers/long").exists()


def test_a_killed_guard_is_not_missed(boxes: Program) -> None:
    """It is there for the case that `run` is killed, which it wasn't."""
    with boxes.start("run", "--rm", "--network=none", "--name", "c", "tool", "sh", "-c", "sleep 1; exit 4") as process:
        until(lambda: boxes("ps", "-q").out == "c\n")
        for pid in children_of(process.pid):
            os.kill(pid, signal.SIGKILL)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (4, "", "")
    assert boxes("ps", "-aq").out == ""


def test_a_killed_keeper_loses_the_status_and_nothing_else(boxes: Program) -> None:
    boxes("run", "-d", "--name", "orphan", "--network=none", "tool", "sleep", "60")
    first = process_of(boxes, "orphan")
    os.kill(parent_of(first), signal.SIGKILL)
    assert boxes("exec", "orphan", "cat", "/srv/index.html").out == "page\n"
    assert boxes("ps", "-q").out == "orphan\n"
    boxes("stop", "-t", "1", "orphan")
    assert not state(first)
    assert "exited ?" in boxes("ps", "-a").out
    boxes("rm", "orphan")


def test_what_a_container_leaves_running_ends_with_it(boxes: Program) -> None:
    """An end of its streams in a child's hands doesn't keep `run` waiting."""
    result = boxes("run", "--rm", "--network=none", "tool", "sh", "-c", "sleep 4242 & echo done", timeout=20)
    assert result.out == "done\n"
    asked = subprocess.run(["pgrep", "-fx", "sleep 4242"], capture_output=True, check=False)
    assert asked.stdout == b""


def test_nobody_listens_any_more(boxes: Program) -> None:
    """The container goes on to its end, and the log has all of it."""
    script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done"
    words = ("run", "--name", "talks", "--network=none", "tool", "sh", "-c", script)
    with boxes.start(*words) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        assert process.wait(timeout=30) == 0
    assert boxes("logs", "talks").out.splitlines()[-1] == "line 2999"


# Records and layers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["{", "[]", ""])
@pytest.mark.parametrize("file", ["config.json", "status.json"])
def test_a_damaged_record_hinders_nobody_else(boxes: Program, file: str, content: str) -> None:
    boxes("run", "--name", "bad", "--network=none", "tool", "id")
    boxes("run", "--name", "good", "--network=none", "tool", "id")
    (boxes.home / "containers/bad" / file).write_text(content)
    listed = boxes("ps", "-aq")
    assert "good\n" in listed.out
    assert "bad\n" not in listed.out
    assert "[container.damaged]" in listed.err
    assert "rm -f bad" in listed.err
    assert "[container.damaged]" in boxes("rm", "bad", status=4).err
    assert boxes("run", "--rm", "--network=none", "tool", "echo", "still").out == "still\n"
    boxes("rm", "-f", "bad")
    assert boxes("ps", "-aq").out == "good\n"


def test_a_damaged_record_of_a_running_container(either: Program) -> None:
    either("run", "-d", "--name", "bad", "--network=none", "tool", "sleep", "60")
    first = process_of(either, "bad")
    (either.home / "containers/bad/config.json").write_text("{")
    either("rm", "-f", "bad")
    assert not state(first)
    assert either("ps", "-aq").out == ""


def test_a_damaged_record_that_does_not_say_what_runs(boxes: Program) -> None:
    boxes("run", "-d", "--name", "bad", "--network=none", "tool", "sleep", "60")
    first = process_of(boxes, "bad")
    (boxes.home / "containers/bad/status.json").write_text("{")
    assert "[container.damaged]" in boxes("rm", "-f", "bad", status=4).err
    assert state(first)
    os.kill(first, signal.SIGKILL)
    until(lambda: boxes("rm", "-f", "bad", status=None).status == 0)


def test_missing_layers(fresh_boxwright: Program, context: Callable[..., Path], busybox_base: Path) -> None:
    place = context(f"FROM tar:{busybox_base}\nRUN echo hi > /file\n")
    fresh_boxwright("build", place, "-q", "-t", "broken", "--network", "none")
    for layer in (fresh_boxwright.home / "l").iterdir():
        layer.rename(fresh_boxwright.home / layer.name)
    refused = fresh_boxwright("run", "--rm", "--network=none", "broken", "id", status=4)
    assert "[store.layer-missing]" in refused.err
    assert "fsck" in refused.err
    assert fresh_boxwright("ps", "-aq").out == ""


def test_a_store_that_can_not_be_written(boxes: Program, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for home in (tmp_path / "file", Path("/proc/boxwright")):
        refused = boxes.at(home)("run", "--rm", "tool", "id", status=4)
        assert "[store.unusable]" in refused.err
        assert "Traceback" not in refused.err


@pytest.mark.ordinary_user
def test_another_users_store(ordinary_boxes: Program, boxes: Program) -> None:
    refused = ordinary_boxes.at(boxes.home)("run", "--rm", "tool", "id", status=4)
    assert "[store.unusable]" in refused.err


def test_a_container_that_can_not_be_started_leaves_nothing(run: Run, boxes: Program) -> None:
    assert "[sandbox.cwd]" in run("-w", "/etc/passwd", "tool", "id", status=1).err
    assert "[usage.workdir]" in run("-w", "nowhere", "tool", "id", status=2).err
    assert "[sandbox.mount-point]" in run("-v", f"{boxes.home}:/bin/busybox", "tool", "id", status=1).err
    assert boxes("ps", "-aq").out == ""
    assert not [path for path in (boxes.home / "containers").iterdir() if not path.name.endswith(".lock")]


@pytest.mark.parametrize("delay", [0.02, 0.05, 0.1, 0.2, 0.3, 0.5])
def test_interrupted_at_any_moment(boxes: Program, delay: float) -> None:
    with boxes.start("run", "--rm", "--network=none", "tool", "sleep", "30") as process:
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert "Traceback" not in err
    # -2: before Python looked at signals. 137: the container's, which would not notice.
    assert process.returncode in (-2, 130, 137)
    until(lambda: boxes("ps", "-aq").out == "")


# What is kept --------------------------------------------------------------------------------------------------------


def test_commit_keeps_every_kind_of_change(boxes: Program, tmp_path: Path) -> None:
    host = [
        f"-v{Path(path).resolve()}:{path}:ro" for path in ("/usr", "/lib", "/lib64", "/sbin") if Path(path).exists()
    ]
    place = tmp_path / "deep"
    place.mkdir()
    (place / "Recipe").write_text("FROM tool\nRUN mkdir -p /op/sub && echo 1 > /op/old && echo 2 > /op/sub/b\n")
    boxes("build", place, "-q", "-t", "deep", "--network", "none")
    before = boxes("inspect", "deep").out
    script = (
        "rm -r /op && mkdir /op && echo n > /op/new && rm /srv/index.html && cat /bin/busybox > /capable"
        " && /usr/sbin/setcap cap_net_raw+ep /capable && chown 5:6 /srv/data/a && chmod 4711 /srv/data/a"
    )
    boxes("run", "--name", "c", "--network=none", *host, "deep", "sh", "-c", script)
    boxes("commit", "c", "changed")
    assert boxes("inspect", "deep").out == before
    boxes("export", "changed", f"rootfs:{tmp_path}/root")
    root = tmp_path / "root"
    assert [path.name for path in (root / "op").iterdir()] == ["new"]
    assert not (root / "srv/index.html").exists()
    assert os.getxattr(root / "capable", "security.capability")
    found = (root / "srv/data/a").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (5, 6, 0o4711)
    assert (root / "srv/data/b").stat().st_uid == 0, "an overlay's copy-up parts hard links"
    assert not (root / "usr").exists()
    boxes("fsck")


def test_commit_without_a_layer(boxes: Program) -> None:
    boxes("run", "--name", "c", "--read-only", "--network=none", "tool", "id")
    digest = json.loads(boxes("inspect", "tool").out)[0]["identity"]
    assert boxes("commit", "c", "same").out.strip() == digest
    boxes("rm", "same")
    assert "[container.unknown]" in boxes("commit", "nobody", "x", status=1).err
    assert "[usage.name]" in boxes("commit", "c", "Not A Name", status=2).err


@pytest.mark.ordinary_user
def test_commit_is_the_same_for_both(boxes: Program, ordinary_boxes: Program) -> None:
    """Opaque directories and owners, which an ordinary user's overlay keeps otherwise."""
    script = "rm -r /srv/data /srv/index.html && mkdir /srv/data && chown 33:44 /srv/data"
    listings = []
    for program in (boxes, ordinary_boxes):
        program("run", "--name", "c", "--network=none", "tool", "sh", "-c", script)
        program("commit", "c", "changed")
        out = program.home.parent / "changed.tar"
        program("export", "changed", f"tar:{out}")
        said = subprocess.run(
            ["tar", "--numeric-owner", "-tvf", out, "srv"], check=True, capture_output=True, text=True
        )
        listings.append([(*line.split()[:2], line.split()[-1]) for line in said.stdout.splitlines()])
        out.unlink()
    assert listings[0] == listings[1]
    assert ("drwxr-xr-x", "33/44", "srv/data/") in listings[0]
    assert len(listings[0]) == 2


# Other options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("app", "uid=1000(app) gid=1001(app)"),
        ("1000:50", "uid=1000(app) gid=50"),
        ("app:root", "uid=1000(app) gid=0(root)"),
        ("4242", "uid=4242 gid=0(root)"),
        ("0:0", "uid=0(root) gid=0(root)"),
    ],
)
def test_users(either: Program, user: str, said: str) -> None:
    asked = either("run", "--rm", "--network=none", "-u", user, "tool", "id")
    assert asked.out.partition(" groups=")[0].strip() == said


def test_networks(boxes: Program) -> None:
    devices = ("tool", "ls", "/sys/class/net")
    assert boxes("run", "--rm", "--network=none", *devices).out == "lo\n"
    assert set(boxes("run", "--rm", "--network=host", *devices).out.split()) == set(os.listdir("/sys/class/net"))
    assert len(boxes("run", "--rm", *devices).out.split()) == 2
    assert "[usage.port]" in boxes("run", "--rm", "--network=none", "-p", "1:1", "tool", "id", status=2).err


@pytest.mark.parametrize(
    ("command", "status"),
    [(("nothing",), 127), (("/etc/passwd",), 126), (("sh", "-c", "kill -9 $$"), 137), (("sh", "-c", "exit 3"), 3)],
)
def test_exec_exit_status(boxes: Program, command: tuple[str, ...], status: int) -> None:
    boxes("run", "-d", "--name", "c", "--network=none", "--init", "tool", "sleep", "60")
    boxes("exec", "c", *command, status=status)
    assert "[sandbox.user-unknown]" in boxes("exec", "-u", "who", "c", "id", status=1).err
    assert "[usage.command]" in boxes("exec", "c", status=2).err
    assert "[container.unknown]" in boxes("exec", "nobody", "id", status=1).err


def test_a_killed_exec_takes_its_process_along(boxes: Program) -> None:
    boxes("run", "-d", "--name", "c", "--network=none", "tool", "sleep", "60")
    with boxes.start("exec", "c", "sh", "-c", "echo up; sleep 59") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.kill()
        process.communicate(timeout=10)
    until(lambda: "sleep 59" not in boxes("exec", "c", "ps").out)
    assert boxes("ps", "-q").out == "c\n"
