from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwright.engines import processes
from boxwright.engines.forward import Forward
from boxwright.engines.native import NativeEngine
from boxwright.engines.processes import ProcessMark
from boxwright.engines.records import ContainerConfig, ContainerStatus, Mounted, Records
from boxwright.errors import BoxwrightError, StoreError

CONFIG = ContainerConfig(
    id="0123456789ab",
    name="one",
    image="sha256:00",
    image_name="tool",
    layers=("2", "1"),
    argv=("sh", "-c", "echo \udcff"),
    env=(("A", "ä"), ("B", "")),
    cwd="/",
    user="",
    hostname="h",
    network="default",
    ports=(Forward(80, "tcp", 8080), Forward(53, "udp", 53, "127.0.0.1")),
    mounts=(Mounted("/v", "/srv", volume="data"), Mounted("/w", "/x", read_only=True)),
    created=5,
)


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(str(tmp_path))


@pytest.fixture
def sleeper() -> Iterator[int]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


def made(records: Records, name: str, status: ContainerStatus | None = None, **changes: object) -> None:
    with records.reserve(name) as taken:
        config = CONFIG._replace(name=taken, **changes)  # type: ignore[arg-type]
        container = records.write_config(config)
        if status:
            records.write_status(container, status)


def test_a_record_is_read_as_it_was_written(records: Records) -> None:
    status = ContainerStatus(ProcessMark(7, 8, "boot"), 9, (("/a", True), ("/a/b", False)))
    made(records, "one", status)
    found = records.get("one")
    assert found.config == CONFIG
    assert found.status == status
    assert not found.is_running()
    assert found.exit_code() is None


def test_the_end_of_what_was_started_again_is_not_waited_for(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks at it while that happens sees an old process, and the new one's exit status, which is not there yet."""
    made(records, "one", ContainerStatus(ProcessMark(7, 8, "boot"), 9))
    seen = records.get("one")
    with open(seen.exit_file, "w", encoding="ascii") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        records.write_status(seen, ContainerStatus(ProcessMark(9, 9, "boot"), 10))
        began = time.monotonic()
        assert seen.exit_code() is None
        monkeypatch.setattr("boxwright.engines.records._WRITING_SECONDS", 0.05)
        assert records.get("one").exit_code() is None, "whose starter was killed before it wrote the record"
        assert time.monotonic() - began < 5
        held.write("3\n")
    assert seen.exit_code() == 3


def test_found_by_name_id_and_its_beginning(records: Records) -> None:
    made(records, "one")
    made(records, "0123", id="ffff00000000")
    assert records.get("0123").config.id == "ffff00000000", "a name comes first"
    assert records.get("01234").name == "one"
    assert records.find("012") is None
    for name in ("../one", "", ".", ".names.lock", "one/../one"):
        assert records.find(name) is None
    with pytest.raises(BoxwrightError) as caught:
        records.get("none")
    assert caught.value.code == "container.unknown"


def test_ambiguous_beginnings_name_nobody(records: Records) -> None:
    made(records, "a", id="abcd11111111")
    made(records, "b", id="abcd22222222")
    assert records.find("abcd") is None
    assert records.get("abcd2").name == "b"


def test_the_newest_first(records: Records) -> None:
    for name, created in (("old", 1), ("new", 3), ("b", 2), ("a", 2)):
        made(records, name, created=created)
    assert [container.name for container in records.all()] == ["new", "a", "b", "old"]
    assert Records("/no/such/place").all() == []


def test_a_name_is_taken_once(records: Records) -> None:
    made(records, "one")
    with pytest.raises(BoxwrightError) as caught, records.reserve("one"):
        pass
    assert caught.value.code == "container.name-taken"


def test_a_name_that_is_being_made_is_taken(records: Records) -> None:
    with records.reserve("one"), pytest.raises(BoxwrightError) as caught, records.reserve("one"):
        pass
    assert caught.value.code == "container.name-taken"


def test_what_failed_or_was_killed_frees_its_name(records: Records, tmp_path: Path) -> None:
    with pytest.raises(KeyError), records.reserve("one"):
        raise KeyError
    (tmp_path / "one").mkdir()  # a process that was killed before it wrote the record
    made(records, "one")
    assert records.get("one").config == CONFIG


def test_what_was_being_removed_is_removed(records: Records, tmp_path: Path) -> None:
    made(records, "one")
    (tmp_path / "one").rename(tmp_path / ".gone-1234")
    assert records.all() == []
    records.sweep()
    assert not (tmp_path / ".gone-1234").exists()
    assert not records.discard("one")


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "7", "{}", '{"id": 1}', "\x00"])
def test_a_damaged_record_hinders_nobody_else(records: Records, tmp_path: Path, content: str) -> None:
    made(records, "bad")
    made(records, "good")
    (tmp_path / "bad/config.json").write_text(content)
    found, damaged = records.survey()
    assert [container.name for container in found] == ["good"]
    assert [error.code for error in damaged] == ["container.damaged"]
    with pytest.raises(StoreError):
        records.get("bad")


@pytest.mark.parametrize("field", ContainerConfig._fields)
def test_every_field_of_a_record_is_needed(records: Records, tmp_path: Path, field: str) -> None:
    made(records, "one")
    place = tmp_path / "one/config.json"
    place.write_text(
        json.dumps({name: value for name, value in json.loads(place.read_text()).items() if name != field})
    )
    assert [error.code for error in records.survey()[1]] == ["container.damaged"]


def test_a_damaged_record_is_removed_when_nothing_runs(records: Records, tmp_path: Path, sleeper: int) -> None:
    made(records, "bad", ContainerStatus(processes.mark(sleeper), 1))
    engine = NativeEngine(records, "")
    (tmp_path / "bad/config.json").write_text("{")
    engine.kill_damaged("bad")
    assert not processes.is_alive(processes.mark(sleeper))
    (tmp_path / "bad/status.json").write_text("{")
    engine.kill_damaged("bad")
    (tmp_path / "bad/exit").touch()
    engine.kill_damaged("bad")
    with (tmp_path / "bad/exit").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreError) as caught:
            engine.kill_damaged("bad")
    assert caught.value.code == "container.damaged"


def test_containers_that_should_be_gone(records: Records, tmp_path: Path, sleeper: int) -> None:
    running = ContainerStatus(processes.mark(sleeper), 1)
    made(records, "runs", running, auto_remove=True)
    made(records, "ended", ContainerStatus(ProcessMark(1, 1, "other boot"), 1), auto_remove=True)
    made(records, "kept", ContainerStatus(ProcessMark(1, 1, "other boot"), 1))
    made(records, "just", ContainerStatus(ProcessMark(1, 1, "other boot"), 1), auto_remove=True)
    (tmp_path / "just/exit").touch()
    assert [container.name for container in records.stale()] == ["ended"]


def test_the_exit_status(records: Records, tmp_path: Path) -> None:
    made(records, "one")
    container = records.get("one")
    for text, code in (("", None), ("0\n", 0), ("137\n", 137), ("x", None)):
        (tmp_path / "one/exit").write_text(text)
        assert container.exit_code() == code


# Processes -----------------------------------------------------------------------------------------------------------


def test_a_mark_means_one_process_of_one_boot(sleeper: int) -> None:
    process = processes.mark(sleeper)
    assert processes.is_alive(process)
    assert not processes.is_alive(process._replace(boot="another"))
    assert not processes.is_alive(process._replace(started=process.started + 1))
    assert not processes.send(process._replace(started=process.started + 1), signal.SIGKILL)
    assert processes.await_end(process._replace(boot="another"))
    started = time.monotonic()
    assert not processes.await_end(process, 0.05)
    assert time.monotonic() - started >= 0.05
    assert processes.parent_of(sleeper) == os.getpid()


def test_a_zombie_has_ended() -> None:
    with subprocess.Popen(["true"]) as process:
        mark = processes.mark(process.pid)
        assert processes.await_end(mark, 10)
        assert not processes.is_alive(mark)
    assert not processes.send(mark, signal.SIGTERM)
    assert processes.parent_of(process.pid) == 0
    assert not processes.is_alive(processes.mark(process.pid))


def test_names_of_processes_may_hold_anything(tmp_path: Path) -> None:
    program = tmp_path / "a) S 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as process:
        assert processes.parent_of(process.pid) == os.getpid()
        process.kill()
