"""examples/hello, built once, runs in other engines and serves its page there."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, Program

pytestmark = pytest.mark.integration

SECONDS = 60.0
INSTANCE = f"boxwright-hello-{os.getpid()}"
SYSTEM = """FROM debian:bookworm/system
RUN apt-get update && apt-get install -y --no-install-recommends nginx && rm -rf /var/lib/apt/lists/*
COPY index.html /var/www/html/index.html
"""


@pytest.fixture
def hello(boxwright: Program) -> Program:
    """The program, with the image built and named."""
    boxwright("build", ROOT / "examples/hello", "-q", "-t", "hello", timeout=600)
    return boxwright


def fetch(url: str) -> str:
    """The page, as soon as somebody serves it."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                text: str = answer.read().decode()
                return text
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def page() -> str:
    return (ROOT / "examples/hello/index.html").read_text()


def output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.long
@pytest.mark.engine("docker")
def test_docker(hello: Program) -> None:
    hello("export", "hello", "--load", "docker")
    container = output("/usr/bin/docker", "run", "-d", "-p", "127.0.0.1:18080:80", "hello:latest")
    try:
        assert fetch("http://127.0.0.1:18080/") == page()
    finally:
        output("/usr/bin/docker", "rm", "-f", container)
        output("/usr/bin/docker", "rmi", "hello:latest")


@pytest.mark.engine("podman")
def test_podman(hello: Program) -> None:
    hello("export", "hello", "--load", "podman")
    limits = ["--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"]
    container = output("podman", "run", "-d", *limits, "--network", "host", "localhost/hello:latest")
    try:
        assert fetch("http://127.0.0.1:80/") == page()
    finally:
        output("podman", "rm", "-f", "-t", "0", container)
        output("podman", "rmi", "localhost/hello:latest")


@pytest.fixture
def system_context(context: Callable[..., Path]) -> Path:
    place = context(SYSTEM, name="system")
    shutil.copy(ROOT / "examples/hello/index.html", place)
    return place


@pytest.mark.long
@pytest.mark.engine("lxd")
def test_lxd(boxwright: Program, system_context: Path) -> None:
    boxwright("build", system_context, "-q", "-t", "hello-system", "--load", "lxd", timeout=600)
    name = INSTANCE
    try:
        output("lxc", "launch", "hello-system", name)
        assert fetch(f"http://{_address(name)}/") == page()
    finally:
        subprocess.run(["lxc", "delete", "-f", name], check=False)
        subprocess.run(["lxc", "image", "delete", "hello-system"], check=False)


def _address(name: str) -> str:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        (instance,) = json.loads(output("lxc", "list", f"^{name}$", "--format", "json"))
        network = (instance["state"] or {}).get("network") or {}
        for address in network.get("eth0", {}).get("addresses", ()):
            if address["family"] == "inet":
                return str(address["address"])
        time.sleep(0.2)
    raise AssertionError(f"{name} got no address within {SECONDS} s")


def test_demo(hello: Program) -> None:
    """Everything of `make demo` but its setup."""
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen(1)
        port = str(taken.getsockname()[1])
        command = [str(ROOT / "scripts/demo.sh"), port]
        environment = hello.whole_environment()
        refused = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert refused.returncode == 1
    assert f"port {port}" in refused.stderr
    assert "demo_port=" in refused.stderr
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=120).stdout
    image = json.loads(hello("inspect", "hello").out)[0]
    assert all(line in shown for line in page().splitlines())
    assert image["identity"] in shown
    assert f"{image['size'] / 1e6:.1f} MB" in shown
    assert hello("ps", "-aq").out == ""
