"""What is read from LXD's answers: how a program ended, how large a volume is."""

from __future__ import annotations

import pytest

from boxwright.engines.deploy.lxdinstance import config_of, exit_code_of, tells_status
from boxwright.engines.deploy.lxdvolumes import size_of
from boxwright.model.deployment import InstanceSpec, NewInstance

BEGUN = (
    'lxc job 20261122074115.612 INFO     conf - ../src/lxc/conf.c:run_script_argv:341 - Executing script "/usr/bin/lxd'
    ' callhook /var/lib/lxd "default" "job" start" for container "job"\n'
    'lxc job 20261122074116.260 NOTICE   start - ../src/lxc/start.c:start:2194 - Exec\'ing "/bin/sh"\n'
    'lxc job 20261122074116.262 NOTICE   start - ../src/lxc/start.c:post_start:2205 - Started "/bin/sh" with pid "44"\n'
)
ENDED = (
    'lxc job 20261122074117.237 INFO     conf - ../src/lxc/conf.c:run_script_argv:341 - Executing script "/usr/bin/lxd'
    ' callhook /var/lib/lxd "default" "job" stopns" for container "job"\n'
)
HOW = "lxc job 20261122074117.237 INFO     error - ../src/lxc/error.c:lxc_error_set_and_log:31 - Child <44> ended on "


@pytest.mark.parametrize(
    ("log", "code"),
    [
        (BEGUN + ENDED, 0),
        (f"{BEGUN}{HOW}error (7)\n{ENDED}", 7),
        (f"{BEGUN}{HOW}signal Killed(9)\n{ENDED}", 137),
        (f"{BEGUN}{HOW}signal User defined signal 1(10)\n{ENDED}", 138),
        (BEGUN, None),  # the machine went down: nobody knows
        ("", None),
    ],
)
def test_how_a_program_ended(log: str, code: int | None) -> None:
    assert exit_code_of(log) == code


@pytest.mark.parametrize(("restart", "told"), [("no", True), ("on-failure", True), ("", False), ("always", False)])
def test_of_what_may_be_done_lxc_writes_it_down(restart: str, told: bool) -> None:  # noqa: FBT001
    spec = InstanceSpec("job", 1, "one", "job", ("run",), restart=restart)
    config = config_of(NewInstance("shop-job-1-g1", "shop", spec, (), (), ()), (), None)
    assert tells_status({"status": "Stopped", "config": config}) == told
    assert not tells_status({"status": "Running", "config": config})


@pytest.mark.parametrize(
    ("text", "size"),
    [("", 0), ("5368709120", 5 << 30), ("5GiB", 5 << 30), ("5GB", 5 * 10**9), ("512 MiB", 512 << 20), ("10%", 0)],
)
def test_a_size_as_lxd_writes_it(text: str, size: int) -> None:
    assert size_of(text) == size
