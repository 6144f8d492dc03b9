"""Containers of base images, and a web server for their bundles."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import Program
from tests.integration.conftest import free_port

NOW = {"PACKAGE_ZIP_PAUSE": "0.1", "PACKAGE_ZIP_RETRIES": "2"}


class Running:
    """A container of a base image in the machine's network."""

    def __init__(self, program: Program, name: str, port: int, health: int) -> None:
        self.program, self.name, self.port, self.health = program, name, port, health

    def get(self, path: str = "/", port: int = 0) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port or self.port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def answers(self, text: str) -> bool:
        try:
            return self.get().strip() == text
        except OSError:
            return False

    def is_healthy(self) -> bool:
        try:
            return bool(json.loads(self.get("/healthz", self.health))["status"] == "ok")
        except OSError:
            return False

    def log(self) -> list[dict[str, str]]:
        lines = self.program("logs", self.name).out.splitlines() + self.program("logs", self.name).err.splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"time"')]

    def events(self, kind: str) -> list[str]:
        return [line["message"] for line in self.log() if line["event"] == kind]

    def look_again(self) -> None:
        """What `latest` names is to be fetched."""
        self.program("exec", self.name, "sh", "-c", "kill -HUP 1")


@contextmanager
def running(program: Program, image: str, *options: str | Path, **env: str) -> Iterator[Running]:
    port, health = free_port(), free_port()
    given = {"PORT": str(port), "HEALTH_PORT": str(health), **NOW, **env}
    words = [word for name, value in given.items() for word in ("-e", f"{name}={value}")]
    name = program("run", "-d", "--network", "host", *words, *options, image).out.strip()
    try:
        yield Running(program, name, port, health)
    finally:
        program("rm", "-f", name)


@contextmanager
def served(place: Path, *words: str | Path, **environment: str) -> Iterator[str]:
    """`boxwright bundle serve` of a directory; yields the address before ``/latest``."""
    program = Program(place.parent / "serve-store", environment)
    with program.start("bundle", "serve", place, "--port", "0", *words) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip().removesuffix("/latest")
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=10)
            assert server.returncode == 0


def make_certificate(place: Path, common_name: str = "test") -> None:
    """Write ``tls.crt`` and ``tls.key``, for 127.0.0.1, in place of those that are there."""
    words = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", f"/CN={common_name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(place / "new.key"), "-out", str(place / "new.crt")]
    subprocess.run(["openssl", "req", *words, *names, *files], check=True, capture_output=True)
    for kind in ("key", "crt"):
        os.replace(place / f"new.{kind}", place / f"tls.{kind}")
