"""A stack names a bundle: a new revision is a rolling restart."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.integration.conftest import Base, free_port

pytestmark = pytest.mark.integration

STACK = """\
name: {name}
containers:
  web:
    bundle: {{base: static, url: "http://files/{file}", sha256: {sha256}}}
    replicas: 2
    ports: ["{port}:8080"]
    links: [files]
    environment: {{PACKAGE_ZIP_RETRIES: "1", PACKAGE_ZIP_PAUSE: "0.1"}}
    healthcheck: {{http: /healthz, port: 8081, interval: 500ms, timeout: 5s, start-period: 10s}}
  files:
    image: base/static
    entrypoint: [busybox, httpd, -f, -p, "80", -h, /dist]
    volumes: ["./dist:/dist:ro"]
    healthcheck: {{http: /latest, port: 80, interval: 200ms}}
cluster: {{engine: native}}
"""


class Shop:
    """A stack of a web server that runs a bundle, and of the one that gives bundles out."""

    def __init__(self, program: Program, place: Path) -> None:
        self.program, self.place = program, place
        self.port = free_port()
        self.name = f"t{os.getpid()}{time.monotonic_ns() % 10000}"
        (place / "site").mkdir(parents=True)

    def publish(self, text: str) -> dict[str, str]:
        """Bundle a page; returns what its manifest says."""
        (self.place / "site/index.html").write_text(text)
        self.program("bundle", self.place / "site", "-o", self.place / "dist")
        latest = (self.place / "dist/latest").read_text().strip()
        found: dict[str, str] = json.loads((self.place / f"dist/{latest}.json").read_text())
        return found

    def write(self, bundle: dict[str, str]) -> None:
        text = STACK.format(name=self.name, port=self.port, file=bundle["file"], sha256=bundle["sha256"])
        (self.place / "autopilot.yaml").write_text(text)

    def __call__(self, *words: str, status: int | None = 0) -> str:
        done = self.program(*words, cwd=self.place, status=status)
        return done.out + done.err

    def get(self) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=10) as answer:
                return str(answer.read().decode())
        except OSError as error:
            return f"{time.monotonic():.1f} error: {error}"

    @contextmanager
    def asked(self) -> Iterator[list[str]]:
        """All answers while requests come without a pause, two at a time."""
        answers: list[str] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                answers.append(self.get())
                time.sleep(0.005)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield answers
        finally:
            stop.set()
            for thread in threads:
                thread.join()


@pytest.fixture
def shop(base: Base, tmp_path: Path) -> Iterator[Callable[[], Shop]]:
    found = Shop(base("static"), tmp_path / "stack")
    yield lambda: found
    found("destroy", "--yes", "--volumes", status=None)


@pytest.mark.long
def test_another_revision_is_a_rolling_restart(shop: Callable[[], Shop]) -> None:
    stack = shop()
    stack.write(stack.publish("one"))
    stack("deploy")
    assert stack.get() == "one"
    assert "nothing to do" in stack("deploy")
    two = stack.publish("two")
    with stack.asked() as answers:
        stack.write(two)
        plan = [it for it in json.loads(stack("deploy", "--plan", "--json")) if it["action"] != "keep"]
        assert {(it["name"], it["action"]) for it in plan} >= {("web-1", "replace"), ("web-2", "replace")}
        assert not any(it["name"].startswith("files") for it in plan)
        stack("deploy")
        assert stack.get() == "two"
        # A revision that is not what its digest says never answers, and what ran before goes on.
        stack.write({**stack.publish("three"), "sha256": "0" * 64})
        failed = stack("deploy", status=1)
        assert "SHA-256" in failed
        assert stack.get() == "two"
        stack("rollback", "1")
    assert set(answers) == {"one", "two"}, f"{len(answers)} requests"
    assert len(answers) > 100
    assert stack.get() == "one"
