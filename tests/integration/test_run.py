"""Containers run natively, through the command line."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
import time
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import PROGRAM, Program
from tests.integration.conftest import Run, free_port, until

pytestmark = pytest.mark.integration


def page(port: int) -> str:
    def fetched() -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/index.html", timeout=2) as answer:
                text: str = answer.read().decode()
                return text
        except OSError:
            return ""

    until(fetched)
    return fetched()


# In the foreground ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["test", "1"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["no-such-program"], 127),
        (["/srv/data/a"], 126),
    ],
)
def test_exit_status(run: Run, command: list[str], status: int) -> None:
    assert run("tool", *command, status=None).status == status


def test_exit_status_of_a_killed_process(run: Run) -> None:
    """The first process of a PID namespace gets no signal of its own making: a child of --init's does."""
    assert run("--init", "tool", "sh", "-c", "kill -KILL $$; sleep 9", status=137).out == ""


def test_streams_are_kept_apart(run: Run) -> None:
    result = run("tool", "sh", "-c", "echo out; echo err >&2")
    assert (result.out, result.err) == ("out\n", "err\n")


def test_standard_input(run: Run) -> None:
    assert run("-i", "tool", "cat", stdin="typed\n").out == "typed\n"
    assert run("tool", "cat", stdin="typed\n").out == ""


def test_large_output_is_whole(run: Run) -> None:
    text = "x" * 99 + "\n"
    assert run("-i", "tool", "cat", stdin=text * 20_000).out == text * 20_000


def test_environment(boxes: Program, tmp_path: Path) -> None:
    given = boxes.with_environment(TAKEN="from here")
    out = given("run", "--rm", "--network=none", "-e", "A=1=2", "-e", "TAKEN", "-e", "GONE", "tool", "env").out
    lines = out.splitlines()
    assert {"A=1=2", "TAKEN=from here", "COLOUR=blue"} <= set(lines)
    assert not [line for line in lines if line.startswith("GONE")]
    file = tmp_path / "file.env"
    file.write_text("# comment\n\nA=file\nB= 'as it is'\nTAKEN\n")
    words: list[str | Path] = ["--env-file", file, "-e", "A=option"]
    lines = given("run", "--rm", "--network=none", *words, "tool", "env").out.splitlines()
    assert {"A=option", "B= 'as it is'", "TAKEN=from here"} <= set(lines)
    assert "usage.env-file" in given("run", "--env-file", tmp_path / "no", "tool", status=2).err


def test_entrypoint_workdir_user_hostname(run: Run) -> None:
    assert run("--entrypoint", "echo", "tool", "said").out == "said\n"
    assert run("--workdir", "/srv/data", "tool", "ls").out == "a\nb\n"
    assert run("--user", "app", "tool", "sh", "-c", "id -u; id -g").out == "1000\n1001\n"
    assert run("--user", "7:8", "tool", "sh", "-c", "id -u; id -g").out == "7\n8\n"
    assert run("--hostname", "box", "tool", "hostname").out == "box\n"


def test_unknown_user(run: Run) -> None:
    assert "[sandbox.user-unknown]" in run("--user", "nobody-here", "tool", "id", status=None).err


def test_no_command(run: Run) -> None:
    assert "[run.no-command]" in run("tool", status=1).err


def test_unknown_image(run: Run) -> None:
    assert "[image.unknown]" in run("nothing", "true", status=1).err


def test_read_only(run: Run, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    out = run(
        "--read-only", "-v", f"{tmp_path}/kept:/srv/kept", "tool", "sh", "-c",
        "touch /new 2>/dev/null && echo bad; touch /srv/kept/new && echo volume",
    ).out  # fmt: skip
    assert out == "volume\n"
    assert (tmp_path / "kept/new").exists()


def test_init_reaps_and_forwards(boxes: Program) -> None:
    orphan = "(sh -c 'sleep 0.05 &'); sleep 0.3; ps -o stat | while read s; do case $s in Z*) echo zombie;; esac; done"
    assert boxes("run", "--rm", "--network", "none", "--init", "tool", "sh", "-c", orphan).out == ""
    script = "trap 'exit 6' TERM; echo up; while :; do sleep 0.05; done"
    boxes("run", "-d", "--name", "inner", "--network", "none", "--init", "tool", "sh", "-c", script)
    until(lambda: boxes("logs", "inner").out == "up\n")
    boxes("stop", "inner")
    assert json.loads(boxes("ps", "-a", "--json").out)[0]["exit_code"] == 6


def test_ctrl_c(boxes: Program) -> None:
    words = ("run", "--rm", "--network", "none", "--name", "long", "tool", "sleep", "60")
    with boxes.start(*words) as process:
        until(lambda: boxes("ps", "-q").out == "long\n")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
    assert process.returncode in (130, 137)
    assert boxes("ps", "-aq").out == ""


def test_killed_in_the_foreground(boxes: Program) -> None:
    """The container goes with its `run`, and --rm is kept."""
    with boxes.start("run", "--rm", "--network", "none", "--name", "long", "tool", "sleep", "60") as process:
        until(lambda: boxes("ps", "-q").out == "long\n")
        process.kill()
        process.communicate(timeout=10)
    until(lambda: boxes("ps", "-aq").out == "")


def on_terminal(
    program: Program, *arguments: str, answer: tuple[bytes, bytes] = (b"", b""), typed: bytes = b""
) -> bytes:
    """What a person sees who types `answer[1]` when `answer[0]` is seen; `typed` was typed before it was started."""
    control, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    os.write(control, typed)
    words: list[str] = [str(PROGRAM), *arguments]
    seen = b""
    with subprocess.Popen(
        words, stdin=terminal, stdout=terminal, stderr=terminal, env=program.whole_environment(), start_new_session=True
    ) as process:
        os.close(terminal)
        wanted, reply = answer
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            if not select.select([control], [], [], 0.1)[0]:
                continue
            try:
                seen += os.read(control, 4096)
            except OSError:  # nobody has the terminal any more (pty(7))
                break
            if reply and wanted in seen:
                os.write(control, reply)
                reply = b""
        process.kill()
    os.close(control)
    return seen


def test_on_a_terminal(boxes: Program) -> None:
    script = "tty; stty size; read x; echo got $x"
    words = ("run", "--rm", "-it", "--network", "none", "tool", "sh", "-c", script)
    seen = on_terminal(boxes, *words, answer=(b"33 77", b"word\n"))
    assert b"/dev/pts/0" in seen
    assert b"got word" in seen


def test_what_was_typed_ahead_counts(boxes: Program) -> None:
    words = ("run", "--rm", "-it", "--network", "none", "tool", "sh", "-c", "read x; echo got $x")
    assert b"got early" in on_terminal(boxes, *words, typed=b"early\n")


def test_ctrl_c_on_a_terminal(boxes: Program) -> None:
    """The container's own terminal makes a signal of it."""
    script = "trap 'echo caught' INT; echo ready; sleep 30; echo after"
    words = ("run", "--rm", "-it", "--network", "none", "tool", "sh", "-c", script)
    assert b"caught" in on_terminal(boxes, *words, answer=(b"ready", b"\x03"))


def test_exec_on_a_terminal(boxes: Program) -> None:
    boxes("run", "-d", "--name", "c", "--network=none", "tool", "sleep", "60")
    seen = on_terminal(boxes, "exec", "-it", "c", "sh", "-c", "tty; stty size; read x; echo got $x", typed=b"early\n")
    assert b"/dev/pts/0" in seen
    assert b"33 77" in seen
    assert b"got early" in seen


# The layer -----------------------------------------------------------------------------------------------------------


def exported(boxes: Program, tmp_path: Path) -> bytes:
    out = tmp_path / "export.tar"
    out.unlink(missing_ok=True)
    boxes("export", "tool", f"tar:{out}")
    return out.read_bytes()


def test_the_image_stays_as_it_was(boxes: Program, tmp_path: Path) -> None:
    before = exported(boxes, tmp_path), boxes("inspect", "tool").out
    script = "rm -r /srv/data; echo x >> /srv/index.html; mkdir /srv/data; chmod 700 /etc; echo 1 > /bin/new; sync"
    boxes("run", "--rm", "--network=none", "tool", "sh", "-c", script)
    assert (exported(boxes, tmp_path), boxes("inspect", "tool").out) == before
    boxes("fsck")


def test_a_stopped_container_keeps_its_layer(boxes: Program) -> None:
    boxes("run", "--name", "kept", "--network=none", "tool", "sh", "-c", "echo two > /srv/data/a")
    assert "exited 0" in boxes("ps", "-a").out
    assert boxes("ps", "-q").out == ""
    boxes("commit", "kept", "changed")
    assert boxes("run", "--rm", "--network=none", "changed", "cat", "/srv/data/a").out == "two\n"


def test_commit_keeps_what_changed_and_no_more(boxes: Program, tmp_path: Path) -> None:
    before = exported(boxes, tmp_path)
    script = "rm /srv/data/b; rm -r /empty; mkdir /empty; echo n > /empty/n; ln -s x /link; ln /srv/index.html /hard"
    boxes("run", "--name", "worker", "--network=none", "tool", "sh", "-c", script)
    digest = boxes("commit", "worker", "after").out.strip()
    assert exported(boxes, tmp_path) == before
    out = tmp_path / "after.tar"
    boxes("export", "after", f"tar:{out}")
    names = set(subprocess.run(["tar", "tf", out], check=True, capture_output=True, text=True).stdout.split())
    plain = {name.removeprefix("./").rstrip("/") for name in names}
    assert {"srv/data/a", "empty/n", "link", "hard"} <= plain
    assert not {"srv/data/b", "etc/hosts", "etc/resolv.conf", "etc/hostname"} & plain
    assert "purpose" in boxes("inspect", digest).out
    boxes("fsck")


def test_a_container_that_runs_is_not_committed(boxes: Program) -> None:
    boxes("run", "-d", "--name", "busy", "--network=none", "tool", "sleep", "60")
    assert "[container.running]" in boxes("commit", "busy", "x", status=1).err


def test_gc_keeps_the_layers_of_containers(boxes: Program) -> None:
    boxes("run", "-d", "--name", "busy", "--network=none", "tool", "sleep", "60")
    boxes("rm", "-f", "tool")
    boxes("gc", "--max-size", "0")
    assert boxes("exec", "busy", "cat", "/srv/data/a").out == "one\n"


# Volumes -------------------------------------------------------------------------------------------------------------


def test_a_directory_of_the_host(run: Run, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "x").write_text("here")
    assert run("-v", f"{given}:/mnt/deep", "tool", "cat", "/mnt/deep/x").out == "here"
    refused = run("-v", f"{given}:/mnt/deep:ro", "tool", "touch", "/mnt/deep/y", status=1)
    assert "Read-only" in refused.err
    assert "[run.volume-missing]" in run("-v", "/no/such/place:/mnt", "tool", "ls", status=1).err


def test_a_named_volume_is_filled_and_stays(run: Run) -> None:
    assert run("-v", "data:/srv/data", "tool", "ls", "/srv/data").out == "a\nb\n"
    run("-v", "data:/srv/data", "tool", "sh", "-c", "echo more > /srv/data/c")
    assert run("-v", "data:/elsewhere", "tool", "ls", "/elsewhere").out == "a\nb\nc\n"


def test_volumes_are_listed_and_removed(either: Program) -> None:
    either("run", "-d", "--name", "user", "--network=none", "-v", "used:/srv/data", "tool", "sleep", "100")
    either("run", "--rm", "--network=none", "-u", "1000", "-v", "unused:/empty", "tool", "id")
    listed = {it["name"]: it for it in json.loads(either("volume", "ls", "--json").out)}
    assert listed["used"]["users"] == ["user"]
    assert listed["unused"]["users"] == []
    assert {"used", "unused"} <= set(either("volume", "ls", "-q").out.split())
    assert "[volume.in-use]" in either("volume", "rm", "used", status=1).err
    assert either("volume", "rm", "unused").out == "unused\n"
    assert "[volume.unknown]" in either("volume", "rm", "unused", status=1).err
    assert "[usage.volume]" in either("volume", "rm", "../containers", status=2).err
    either("rm", "-f", "user")
    either("volume", "rm", "used")
    assert not {"used", "unused"} & set(either("volume", "ls", "-q").out.split())


def test_volumes_of_another_container(boxes: Program, tmp_path: Path) -> None:
    """A data container needs not run."""
    boxes("run", "--name", "holder", "--network=none", "-v", "/var/own", "-v", f"{tmp_path}:/host", "tool", "id")
    take = ("run", "--rm", "--network=none", "--volumes-from", "holder", "tool")
    boxes(*take, "sh", "-c", "echo shared > /var/own/x; ls /host > /dev/null")
    assert boxes(*take, "cat", "/var/own/x").out == "shared\n"
    unknown = boxes("run", "--rm", "--network=none", "--volumes-from", "nobody", "tool", "id", status=1)
    assert "[container.unknown]" in unknown.err


def test_volumes_of_the_image(boxes: Program, tmp_path: Path) -> None:
    place = tmp_path / "with-volume"
    place.mkdir()
    (place / "Recipe").write_text("FROM tool\nVOLUME /srv/data\n")
    boxes("build", place, "-q", "-t", "volumed")
    boxes("run", "--name", "c", "--network=none", "volumed", "sh", "-c", "echo z > /srv/data/z")
    boxes("commit", "c", "after")
    assert boxes("run", "--rm", "--network=none", "--entrypoint", "ls", "after", "/srv/data").out == "a\nb\n"


@pytest.mark.parametrize("text", ["relative:dir:ro:x", "a:b", ":/x", "name:/", "bad/../name:x"])
def test_bad_volumes(run: Run, text: str) -> None:
    assert "[usage.volume]" in run("-v", text, "tool", "id", status=2).err


# Ports ---------------------------------------------------------------------------------------------------------------


def test_a_published_port(boxes: Program) -> None:
    port = free_port()
    serve = ("httpd", "-f", "-p", "80", "-h", "/srv")
    boxes("run", "-d", "--name", "web", "-p", f"{port}:80", "tool", *serve)
    assert page(port) == "page\n"
    assert f"*:{port}->80/tcp" in boxes("ps").out
    refused = boxes("run", "--rm", "-p", f"{port}:80", "tool", "id", status=1)
    assert "[run.port-taken]" in refused.err
    boxes("stop", "web")
    boxes("run", "-d", "--name", "again", "-p", f"127.0.0.1:{port}:80", "tool", *serve)
    assert page(port) == "page\n"


def test_the_recipes_port(boxes: Program) -> None:
    boxes("run", "-d", "--name", "web", "tool", "httpd", "-f", "-p", "80", "-h", "/srv")
    ports = json.loads(boxes("ps", "--json").out)[0]["ports"]
    assert page(ports[0]["host"]) == "page\n"


def test_a_port_of_udp(boxes: Program) -> None:
    port = free_port(socket.SOCK_DGRAM)
    script = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 9)); print(s.recv(99), flush=True)"
    host = [f"-v{Path(path).resolve()}:{path}:ro" for path in ("/usr", "/lib", "/lib64") if Path(path).exists()]
    boxes("run", "-d", "--name", "udp", "-p", f"{port}:9/udp", *host, "tool", "/usr/bin/python3", "-c", script)

    def arrived() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"datagram\n", ("127.0.0.1", port))
        return "datagram" in boxes("logs", "udp").out

    until(arrived)


@pytest.mark.parametrize("text", ["0", "70000:80", "80/sctp", "a:b", "1:2:3"])
def test_bad_ports(boxes: Program, text: str) -> None:
    assert "[usage.port]" in boxes("run", "--rm", "-p", text, "tool", "id", status=2).err


# In the background ---------------------------------------------------------------------------------------------------


def test_logs_exec_stop_rm(boxes: Program) -> None:
    script = "echo started; echo problem >&2; trap 'echo ending; exit 5' TERM; while :; do sleep 0.05; done"
    name = boxes("run", "-d", "--network=none", "-e", "A=1", "-w", "/srv", "tool", "sh", "-c", script).out.strip()
    until(lambda: "problem" in boxes("logs", name).out)
    assert boxes("logs", name).out == "started\nproblem\n"
    assert boxes("exec", name, "sh", "-c", "echo $A; cat; exit 4", status=4).out == "1\n"
    assert boxes("exec", "-i", name, "cat", stdin="typed").out == "typed"
    assert boxes("exec", "-u", "app", "-w", "/srv/data", "-e", "B=2", name, "sh", "-c", "id -u; ls; echo $B").out == (
        "1000\na\nb\n2\n"
    )
    assert boxes("exec", name, "ls").out == "data\nindex.html\n"
    assert "[container.running]" in boxes("rm", name, status=1).err
    boxes("stop", name)
    assert boxes("logs", name).out == "started\nproblem\nending\n"
    assert json.loads(boxes("ps", "-a", "--json").out)[0]["exit_code"] == 5
    assert "[container.not-running]" in boxes("exec", name, "id", status=1).err
    boxes("rm", name)
    assert boxes("ps", "-aq").out == ""
    assert "[container.unknown]" in boxes("logs", name, status=1).err


def test_stop_kills_in_the_end(boxes: Program) -> None:
    boxes("run", "-d", "--name", "deaf", "--network=none", "tool", "sh", "-c", "trap '' TERM; sleep 60")
    started = time.monotonic()
    boxes("stop", "-t", "1", "deaf")
    assert time.monotonic() - started < 8
    assert json.loads(boxes("ps", "-a", "--json").out)[0]["exit_code"] == 137


def test_follow_the_log(boxes: Program) -> None:
    boxes(
        "run",
        "-d",
        "--name",
        "talk",
        "--network=none",
        "tool",
        "sh",
        "-c",
        "for i in 1 2 3; do echo $i; sleep 0.1; done",
    )
    assert boxes("logs", "-f", "talk", timeout=10).out == "1\n2\n3\n"


def test_names_are_unique(boxes: Program) -> None:
    boxes("run", "-d", "--name", "one", "--network=none", "tool", "sleep", "60")
    assert "[container.name-taken]" in boxes("run", "-d", "--name", "one", "--network=none", "tool", "id", status=1).err
    assert "[usage.name]" in boxes("run", "--name", "../x", "tool", "id", status=2).err


def test_two_at_once_want_one_name(boxes: Program) -> None:
    words = ("run", "-d", "--name", "same", "--network=none", "tool", "sleep", "60")
    started = [boxes.start(*words) for _ in range(4)]
    statuses = []
    for process in started:
        process.communicate(timeout=60)
        statuses.append(process.returncode)
    assert sorted(statuses) == [0, 1, 1, 1]


def test_rm_in_the_background(boxes: Program) -> None:
    boxes("run", "-d", "--rm", "--name", "short", "--network=none", "tool", "sleep", "0.2")
    until(lambda: boxes("ps", "-aq").out == "")


def test_after_a_restart_of_the_machine(boxes: Program) -> None:
    """What another boot's process id names is no container of ours."""
    boxes("run", "-d", "--name", "old", "--network=none", "tool", "sleep", "60")
    status, code = boxes.home / "containers/old/status.json", boxes.home / "containers/old/exit"
    known = json.loads(status.read_text())
    try:
        status.write_text(json.dumps(known | {"process": known["process"] | {"boot": "another"}}))
        code.rename(code.with_suffix(".held"))  # the lock on it would have gone with that boot
        code.touch()
        assert boxes("ps", "-q").out == ""
        assert "exited ?" in boxes("ps", "-a").out
    finally:
        status.write_text(json.dumps(known))
        code.with_suffix(".held").rename(code)


def test_an_image_in_use_stays(boxes: Program) -> None:
    boxes("run", "--name", "user", "--network=none", "tool", "id")
    assert "[image.in-use]" in boxes("rm", "tool", status=1).err
    boxes("rm", "user", "tool")
    assert "tool" not in boxes("images").out


@pytest.mark.ordinary_user
def test_an_ordinary_users_owners(ordinary_boxes: Program) -> None:
    program = ordinary_boxes
    program("run", "-d", "--name", "web", "--network=none", "-v", "data:/srv/data", "tool", "sleep", "60")
    assert program("exec", "web", "sh", "-c", "id -u; echo new > /srv/data/c; chown 7:8 /srv/data/c").out == "0\n"
    assert program("exec", "-u", "app", "web", "id", "-u").out == "1000\n"
    program("stop", "-t", "0", "web")
    kept = program("run", "--rm", "--network=none", "-v", "data:/d", "tool", "stat", "-c", "%u:%g", "/d/c")
    assert kept.out == "7:8\n"
    program("commit", "web", "kept")
    assert program("run", "--rm", "--network=none", "kept", "cat", "/srv/index.html").out == "page\n"
