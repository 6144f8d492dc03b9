"""The client of LXD against a real LXD."""

from __future__ import annotations

import io
import os
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwright.engines.lxdclient.address import find_endpoint
from boxwright.engines.lxdclient.client import LxdClient
from boxwright.engines.lxdclient.events import watch_events
from boxwright.engines.lxdclient.execution import Command, execute
from boxwright.engines.lxdclient.failures import LxdError
from boxwright.engines.lxdclient.files import list_directory, pull_file, push_directory, push_file, remove_file
from boxwright.engines.lxdclient.images import export_image, import_image, publish, remove_image
from boxwright.engines.lxdclient.transport import Patience

pytestmark = pytest.mark.engine("lxd")
METADATA = f"architecture: {os.uname().machine}\ncreation_date: 1700000000\nproperties: {{}}\n"
INIT = "#!/bin/sh\ntrap 'exit 0' TERM PWR INT\nwhile :; do sleep 1; done\n"


def unified_image() -> bytes:
    """A system with busybox alone, whose first process waits."""
    files = {
        "metadata.yaml": (METADATA.encode(), 0o644),
        "rootfs/sbin/init": (INIT.encode(), 0o755),
        "rootfs/bin/busybox": (Path("/bin/busybox").read_bytes(), 0o755),
    }
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name in ("dev", "proc", "sys", "tmp", "root", "etc"):
            entry = tarfile.TarInfo(f"rootfs/{name}")
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name in ("sh", "cat", "id", "ps", "sleep", "stty"):
            entry = tarfile.TarInfo(f"rootfs/bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
        for path, (data, mode) in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), mode
            archive.addfile(entry, io.BytesIO(data))
    return written.getvalue()


@pytest.fixture(scope="module")
def client() -> Iterator[LxdClient]:
    with LxdClient(find_endpoint("", {})) as made:
        yield made


@pytest.fixture(scope="module")
def instance(client: LxdClient) -> Iterator[str]:
    name = f"boxwright-client-{os.getpid()}"
    fingerprint = import_image(client, io.BytesIO(unified_image()), properties={"description": "a test's"})
    try:
        body = {"name": name, "source": {"type": "image", "fingerprint": fingerprint}, "profiles": ["default"]}
        client.run("POST", "/instances", body)
        client.change_state(name, "start")
        yield name
    finally:
        if client.find(f"/instances/{name}"):
            client.change_state(name, "stop", force=True)
            client.run("DELETE", f"/instances/{name}")
        remove_image(client, fingerprint)


def ran(client: LxdClient, instance: str, *argv: str, stdin: bytes = b"", **env: str) -> tuple[int, bytes, bytes]:
    out, err = bytearray(), bytearray()
    command = Command(argv, {"PATH": "/bin", **env}, "/tmp", stdin=stdin)
    return execute(client, instance, command, out.extend, err.extend), bytes(out), bytes(err)


def test_commands_have_streams_and_a_status(client: LxdClient, instance: str) -> None:
    got = ran(client, instance, "sh", "-c", 'cat; echo "$X $PWD"; echo wrong >&2; exit 7', stdin=b"in\n", X="a b")
    assert got == (7, b"in\na b /tmp\n", b"wrong\n")
    large = os.urandom(3 << 20)
    assert ran(client, instance, "cat", stdin=large) == (0, large, b"")
    assert ran(client, instance, "nowhere")[0] == 127
    assert ran(client, instance, "sh", "-c", "kill -9 $$")[0] == 137


def test_no_output_is_lost(client: LxdClient, instance: str) -> None:
    # LXD pings each websocket first, and may have closed it before the ping is answered.
    said = {ran(client, instance, "cat", "/sbin/init") for _ in range(60)}
    assert said == {(0, INIT.encode(), b"")}


def test_a_command_runs_as_another_user(client: LxdClient, instance: str) -> None:
    out = bytearray()
    command = Command(("id", "-u"), {"PATH": "/bin"}, "/", user=33, group=33)
    assert execute(client, instance, command, out.extend, out.extend) == 0
    assert out == b"33\n"


def test_a_command_that_is_late_or_unwanted_is_killed(client: LxdClient, instance: str) -> None:
    command = Command(("sleep", "33"), {"PATH": "/bin"})
    with pytest.raises(LxdError) as caught:
        execute(client, instance, command, print, print, Patience(0.3))
    assert caught.value.code == "lxd.timeout"
    until = time.monotonic() + 0.3
    with pytest.raises(KeyboardInterrupt):
        execute(client, instance, command, print, print, Patience(cancelled=lambda: time.monotonic() > until))
    assert b"sleep 33" not in ran(client, instance, "ps")[1]


def test_files_go_in_and_come_out(client: LxdClient, instance: str) -> None:
    data = os.urandom(1 << 20)
    push_directory(client, instance, "/tmp/d", mode=0o700)
    push_file(client, instance, "/tmp/d/a b", io.BytesIO(data), mode=0o711, uid=7, gid=8)
    got = bytearray()
    assert pull_file(client, instance, "/tmp/d/a b", got.extend) == ("file", 7, 8, 0o711)
    assert got == data
    assert list_directory(client, instance, "/tmp/d") == ["a b"]
    remove_file(client, instance, "/tmp/d/a b")
    with pytest.raises(LxdError) as caught:
        pull_file(client, instance, "/tmp/d/a b", got.extend)
    assert caught.value.code == "lxd.not-found"


def test_an_image_of_an_instance_can_be_read(client: LxdClient, instance: str) -> None:
    client.run("POST", f"/instances/{instance}/snapshots", {"name": "s"})
    fingerprint = publish(client, {"type": "snapshot", "name": f"{instance}/s"})
    try:
        data = b"".join(export_image(client, fingerprint))
    finally:
        remove_image(client, fingerprint)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        member = archive.getmember("rootfs/sbin/init")
        assert (member.uid, member.mode) == (0, 0o755)


def test_refusals_have_codes(client: LxdClient, instance: str) -> None:
    for path, code in (("/instances/nobody", "lxd.not-found"), ("/nothing", "lxd.not-found")):
        with pytest.raises(LxdError) as caught:
            client.get(path)
        assert caught.value.code == code
    with pytest.raises(LxdError) as caught:
        client.run("POST", "/instances", {"name": instance, "source": {"type": "none"}})
    assert caught.value.code == "lxd.exists"


def test_events_are_told(client: LxdClient, instance: str) -> None:
    seen: list[str] = []
    listening, done = threading.Event(), threading.Event()

    def listen() -> None:
        for event in watch_events(client, ["lifecycle"], done.is_set):
            listening.set()
            seen.append(str((event.get("metadata") or {}).get("action")))

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        assert listening.wait(10)
        client.run("POST", f"/instances/{instance}/snapshots", {"name": "e"})
        until = time.monotonic() + 10
        while "instance-snapshot-created" not in seen and time.monotonic() < until:
            time.sleep(0.05)
    finally:
        done.set()
        thread.join(10)
    assert "instance-snapshot-created" in seen
