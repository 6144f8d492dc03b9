"""What is LXC's own about stacks: words, users, inits, and that nothing is left."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Program, Result
from tests.integration.conftest import until

pytestmark = [pytest.mark.integration, pytest.mark.engine("lxc")]

RECIPE = "FROM tar:{base}\nRUN --network=none ln -sf busybox /bin/httpd && ln -sf busybox /bin/wget\n"
Stack = Callable[..., Result]


@pytest.fixture
def stack(boxwright: Program, tmp_path: Path, busybox_base: Path) -> Iterator[Stack]:
    """`stack(TEXT, "deploy")`: a command for a stack whose containers are these."""
    name = f"l{os.getpid()}{time.monotonic_ns() % 10000}"

    def command(text: str, *words: str, status: int | None = 0, recipe: str = "") -> Result:
        (tmp_path / "Recipe").write_text(RECIPE.format(base=busybox_base) + recipe)
        (tmp_path / "token").write_text("a secret\n")
        end = "secrets: {token: {file: ./token}}\nnetworks: {in: {internal: true}}\ncluster: {engine: lxc}\n"
        (tmp_path / "autopilot.yaml").write_text(f"name: {name}\ncontainers:\n{text}\n{end}")
        return boxwright(*words, cwd=tmp_path, status=status)

    yield command
    boxwright("destroy", "--yes", "--volumes", cwd=tmp_path, status=None)
    assert name not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def test_a_program_has_its_words_user_and_files(stack: Stack) -> None:
    said = 'echo "$0|$1|$2|$HOME|$PWD"; id -u; id -g; cat /run/secrets/token; hostname; exec sleep 100'
    text = (
        f"  one:\n    build: .\n    user: app\n    directory: /tmp\n    secrets: [token]\n"
        f"    command: ['/bin/sh', '-c', '{said}', 'two  words', \"it's\", '']\n"
    )
    recipe = "RUN --network=none ln -sf busybox /bin/hostname; ln -sf busybox /bin/id\n"
    stack(text, "deploy", recipe=recipe)
    until(lambda: "one-1" in stack(text, "logs", "/one", recipe=recipe).out.splitlines()[-1])
    log = [line.partition("| ")[2] for line in stack(text, "logs", "/one", recipe=recipe).out.splitlines()]
    assert log == ["two  words|it's||/|/tmp", "1000", "1001", "a secret", "one-1"]
    assert stack(text, "exec", "/one", "id", "-u", recipe=recipe).out == "0\n"
    assert (
        "cannot"
        in stack(text, "exec", "/one", "sh", "-c", "mount -t tmpfs x /tmp 2>&1 || echo cannot", recipe=recipe).out
    )
    assert stack(text, "deploy", recipe=recipe).out.endswith("nothing to do\n")


def test_an_init_is_the_first_process(stack: Stack) -> None:
    """System containers are run by their own init, which is asked to end as its image says."""
    recipe = (
        "RUN --network=none mkdir /sbin && ln -s ../bin/busybox /sbin/init && mkdir /srv && "
        "echo page > /srv/index.html && "
        "echo '::sysinit:/bin/busybox httpd -p 80 -h /srv' > /etc/inittab\n"
        'CMD ["/sbin/init"]\nSTOPSIGNAL SIGUSR2\n'
    )
    text = "  system:\n    build: .\n    healthcheck: {http: /index.html, port: 80, interval: 200ms}\n"
    stack(text, "deploy", recipe=recipe)
    assert stack(text, "exec", "/system", "cat", "/proc/1/comm", recipe=recipe).out == "init\n"
    assert stack(text, "exec", "/system", "wget", "-qO-", "http://system/index.html", recipe=recipe).out == "page\n"
    stack(text, "restart", "/system", recipe=recipe)
    assert "well" in stack(text, "status", recipe=recipe).out


def test_a_job_ends_with_its_status(stack: Stack) -> None:
    text = "  job:\n    build: .\n    restart: 'no'\n    command: ['/bin/sh', '-c', 'exit 7']\n"
    failed = stack(text, "deploy", status=1)
    assert "[deploy.ended]" in failed.err
    assert "7" in failed.err


def test_what_can_not_be_said_is_named_first(stack: Stack) -> None:
    text = '  one:\n    build: .\n    environment: {LINES: "a\\nb"}\n    command: [sleep, "100"]\n'
    assert "[deploy.engine-lacks]" in stack(text, "deploy", status=1).err
    missing = "  one:\n    build: .\n    command: [/no/such, program]\n"
    assert "[deploy.start]" in stack(missing, "deploy", status=1).err
