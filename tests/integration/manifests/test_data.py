"""Key/value data of manifests: files, Consul, etcd, and templates that are written again."""

from __future__ import annotations

import base64
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.integration.conftest import free_port, until
from tests.integration.manifests.conftest import Project
from tests.integration.web import Page, Web

pytestmark = pytest.mark.integration


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[str]:
    """A real etcd server."""
    client, peer = free_port(), free_port()
    url = f"http://127.0.0.1:{client}"
    words = ["etcd", "--data-dir", str(tmp_path / "etcd"), "--listen-client-urls", url, "--advertise-client-urls", url]
    peers = [f"http://127.0.0.1:{peer}"]
    words += ["--listen-peer-urls", *peers, "--initial-advertise-peer-urls", *peers]
    words += ["--initial-cluster", f"default=http://127.0.0.1:{peer}"]
    with (tmp_path / "etcd.log").open("wb") as log:
        server = subprocess.Popen(words, stdout=log, stderr=log)

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", client)) == 0

    until(answers)
    yield url
    server.terminate()
    server.wait()


def put(url: str, key: str, value: str) -> None:
    body = json.dumps(
        {"key": base64.b64encode(key.encode()).decode(), "value": base64.b64encode(value.encode()).decode()}
    )
    subprocess.run(["curl", "-fsS", f"{url}/v3/kv/put", "-d", body], check=True, capture_output=True)


KV = "image: {base}\nkv: {SOURCE}\ntemplates: [{src: t, dest: /t}]\nartifact: with/kv\n"


@pytest.mark.engine("etcd")
def test_data_of_etcd_is_rendered_and_watched(boxwright: Program, project: Project, etcd: str) -> None:
    put(etcd, "app/colour", "red")
    put(etcd, "app/db/host", "one")
    put(etcd, "apple", "not this")
    place = project(KV.replace("SOURCE", f"etcd: '{etcd}', prefix: app"), {"t": "{{ kv.colour }} {{ kv.db.host }}\n"})
    boxwright("build", place)
    assert boxwright("run", "--rm", "with/kv", "cat", "/t").out == "red one\n"
    watching = boxwright.start("build", place, "--watch")
    try:
        put(etcd, "app/colour", "blue")
        until(lambda: boxwright("run", "--rm", "with/kv", "cat", "/t").out == "blue one\n", 30)
        (place / "t").write_text("{{ kv.colour }} again\n")
        until(lambda: boxwright("run", "--rm", "with/kv", "cat", "/t").out == "blue again\n", 30)
    finally:
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=30)
    assert watching.returncode == 130


def test_data_of_consul(boxwright: Program, project: Project, web: Web) -> None:
    def pair(key: str, value: str | None) -> dict[str, str | None]:
        return {"Key": key, "Value": None if value is None else base64.b64encode(value.encode()).decode()}

    pairs = [pair("app/", None), pair("app/colour", "red"), pair("app/db/host", "one")]
    web.pages["/v1/kv/app/?recurse=true"] = Page(json.dumps(pairs).encode())
    source = f"consul: '{web.url}', prefix: app, token-env: TOKEN"
    place = project(KV.replace("SOURCE", source), {"t": "{{ kv.colour }} {{ kv.db.host }}\n"})
    program = boxwright.with_environment(TOKEN="secret")
    program("build", place)
    assert program("run", "--rm", "with/kv", "cat", "/t").out == "red one\n"
    assert web.requests[-1].headers.get("X-Consul-Token") == "secret"
    watching = program.start("build", place, "--watch")
    try:
        changed = [pair("app/colour", "blue"), pair("app/db/host", "one")]
        web.pages["/v1/kv/app/?recurse=true"] = Page(json.dumps(changed).encode())
        until(lambda: program("run", "--rm", "with/kv", "cat", "/t").out == "blue one\n", 30)
        # A server that is away for a while ends nothing.
        web.pages["/v1/kv/app/?recurse=true"] = Page(b"no leader", status=500)
        asked = len(web.requests)
        until(lambda: len(web.requests) > asked + 1, 30)
        web.pages["/v1/kv/app/?recurse=true"] = Page(json.dumps(pairs).encode())
        until(lambda: program("run", "--rm", "with/kv", "cat", "/t").out == "red one\n", 30)
    finally:
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=30)
    assert watching.returncode == 130
    assert "[kv.token]" in boxwright("build", place, status=2).err
    web.pages["/v1/kv/app/?recurse=true"] = Page(b"Permission denied", status=403)
    assert "[kv.unreachable]" in program("build", place, status=5).err
    web.pages["/v1/kv/app/?recurse=true"] = Page(b"{}")
    assert "[kv.answer]" in program("build", place, status=5).err
    web.pages["/v1/kv/app/?recurse=true"] = Page(json.dumps([pair("app/a", "x"), pair("app/a/b", "y")]).encode())
    assert "[kv.conflict]" in program("build", place, status=5).err


def test_a_server_that_is_not_there(boxwright: Program, project: Project) -> None:
    place = project(KV.replace("SOURCE", f"etcd: 'http://127.0.0.1:{free_port()}'"), {"t": "{{ kv.colour }}\n"})
    assert "[kv.unreachable]" in boxwright("build", place, status=5).err
