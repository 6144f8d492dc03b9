"""The load balancer as who asks it sees it: weights, TLS, requests under way, the sick, and changes of all that."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Program, Result
from tests.integration.bundles import make_certificate
from tests.integration.conftest import free_port, until
from tests.integration.test_stacks import RECIPE

pytestmark = pytest.mark.integration

SLOW = 2.0
START = f"""\
#!/bin/sh
trap 'exit 0' TERM
hostname > /srv/who
mkdir -p /srv/cgi-bin
printf '#!/bin/sh\\nsleep {SLOW}\\necho; hostname\\n' > /srv/cgi-bin/slow
chmod 755 /srv/cgi-bin/slow
httpd -f -p 80 -h /srv &
wait
"""
STACK = """\
name: {name}
containers:
  web:
    build: ./web
    replicas: 2
    stop-grace: 1s
    healthcheck: {{http: /index.html, port: 80, interval: 200ms, retries: 1, start-period: 10s}}
loadbalancer:
  web: {{listen: {port}, port: 80, {balance}}}
cluster: {{engine: {engine}}}
"""
ENGINES = ["native", *(pytest.param(it, marks=[pytest.mark.engine(it), pytest.mark.long]) for it in ("podman", "lxd"))]


class Place:
    """A stack of two instances behind a load balancer."""

    def __init__(self, program: Program, directory: Path, base: Path, engine: str) -> None:
        self.program = program
        self.directory = directory
        self.engine = engine
        self.name = f"b{os.getpid()}{time.monotonic_ns() % 10000}"
        self.port = free_port()
        self.verified: ssl.SSLContext | None = None
        (directory / "web").mkdir(parents=True)
        (directory / "web/Recipe").write_text(RECIPE.format(base=base))
        (directory / "web/start").write_text(START)
        (directory / "web/start").chmod(0o755)
        self.page("one")

    def page(self, text: str) -> None:
        (self.directory / "web/page").write_text(f"{text}\n")

    def certificate(self) -> None:
        """Another one, which alone is trusted from now on."""
        make_certificate(self.directory)
        both = [(self.directory / f"tls.{kind}").read_text() for kind in ("crt", "key")]
        (self.directory / "site.pem").write_text("".join(both))
        self.verified = ssl.create_default_context(cafile=self.directory / "tls.crt")

    def __call__(self, *words: str, status: int | None = 0) -> Result:
        return self.program(*words, cwd=self.directory, status=status)

    def write(self, balance: str) -> None:
        text = STACK.format(name=self.name, port=self.port, balance=balance, engine=self.engine)
        (self.directory / "autopilot.yaml").write_text(text)

    def deploy(self, balance: str) -> Result:
        self.write(balance)
        return self("deploy")

    def plan(self) -> dict[str, tuple[str, str]]:
        found = json.loads(self("deploy", "--plan", "--json").out)
        return {it["name"]: (it["action"], it["reason"]) for it in found if it["action"] != "keep"}

    def generations(self) -> dict[str, int]:
        found: list[dict[str, Any]] = json.loads(self("status", "--json", status=None).out)["instances"]
        return {f"{it['container']}-{it['number']}": it["generation"] for it in found}

    def get(self, path: str = "/who", timeout: float = 10.0) -> str:
        scheme = "http" if self.verified is None else "https"
        where = f"{scheme}://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(where, timeout=timeout, context=self.verified) as answer:
            text: str = answer.read().decode().strip()
            return text

    def shares(self, count: int) -> dict[str, int]:
        return dict(Counter(self.get() for _ in range(count)))

    def answered(self, name: str, expected: int) -> bool:
        """About so many of 50 requests; others ask at the same time."""
        return abs(self.shares(50).get(name, 0) - expected) < 10


@pytest.fixture(params=ENGINES)
def place(boxwright: Program, tmp_path: Path, busybox_base: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    made = Place(boxwright, tmp_path / "stack", busybox_base, str(request.param))
    yield made
    made("destroy", "--yes", "--volumes", status=None)


@contextmanager
def asked(ask: Callable[[], str]) -> Iterator[list[str]]:
    """Ask without a pause; every answer, and every error's name, is in the list."""
    answers: list[str] = []
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            try:
                answers.append(ask())
            except (OSError, subprocess.SubprocessError) as error:
                answers.append(f"failed: {error}")
            time.sleep(0.005)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield answers
    finally:
        stop.set()
        thread.join()


def curl(place: Place, *words: str) -> str:
    command = ["curl", "-sS", "--insecure", *words, f"https://127.0.0.1:{place.port}/who"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


def test_weights_change_while_requests_go_on(place: Place) -> None:
    place.deploy("weights: {web-1: 9, web-2: 1}")
    assert place.answered("web-1", 45)
    with asked(place.get) as answers:
        place.write("weights: {web-1: 1, web-2: 1}, algorithm: roundrobin")
        assert place.plan() == {"lb-1": ("update", "balancing: weights of web")}
        assert "release 2" in place("deploy").out
        assert place.answered("web-1", 25)
        place.deploy("weights: {web-1: 0}, algorithm: leastconn")
        assert place.shares(20) == {"web-2": 20}
        assert "nothing to do" in place("deploy").out
        place("rollback", "1")
        assert place.answered("web-1", 45)
    assert set(answers) == {"web-1", "web-2"}, Counter(answers)
    assert place.generations() == {"web-1": 1, "web-2": 1, "lb-1": 1}, "nothing was made anew"

    place.write("weights: {web-1: 0}")
    (place.directory / "web/start").write_text("#!/bin/sh\nexit 3\n")
    assert "[deploy.ended]" in place("deploy", status=1).err
    assert place.answered("web-1", 45), "what is taken back is taken back here too"


def test_a_certificate_is_replaced_while_requests_go_on(place: Place) -> None:
    place.certificate()
    place.deploy("tls: ./site.pem")
    assert set(place.shares(20)) == {"web-1", "web-2"}
    assert curl(place, "-o", os.devnull, "--http2", "-w", "%{http_version}") == "2"
    with asked(lambda: curl(place).strip()) as answers:
        place.certificate()
        with pytest.raises(ssl.SSLCertVerificationError):
            verify(place)
        assert place.plan() == {"lb-1": ("update", "balancing: certificate of web")}
        place("deploy")
        assert set(place.shares(20)) == {"web-1", "web-2"}
        (place.directory / "site.pem").write_text("nonsense\n")
        failed = place("deploy", status=1)
        assert "[deploy.balancer]" in failed.err
        assert "site.pem" in failed.err or "web.pem" in failed.err
        assert set(place.shares(20)) == {"web-1", "web-2"}
    assert set(answers) == {"web-1", "web-2"}, Counter(answers)
    assert place.generations()["lb-1"] == 1
    shown = place("exec", "/lb", "stat", "-c", "%a", "/etc/haproxy/certificates/web.pem").out
    assert shown == "600\n", "its key is not for everybody"


def verify(place: Place) -> None:
    """Raises ssl.SSLCertVerificationError where the certificate is not the one that is trusted."""
    import socket

    assert place.verified is not None
    with socket.create_connection(("127.0.0.1", place.port), 10) as plain:
        place.verified.wrap_socket(plain, server_hostname="127.0.0.1").close()


def answers_of(futures: Sequence[Any]) -> list[str]:
    return [it.result() if it.exception() is None else "failed" for it in futures]


@pytest.mark.long
def test_requests_under_way_may_end_and_the_sick_are_not_asked(place: Place) -> None:
    place.deploy("drain: 20s")
    with ThreadPoolExecutor(4) as pool:
        under_way = [pool.submit(place.get, "/cgi-bin/slow", 20.0) for _ in range(4)]
        time.sleep(0.5)
        place.page("two")
        place("deploy")
        assert sorted(answers_of(under_way)) == ["web-1", "web-1", "web-2", "web-2"]
        assert place.get("/index.html") == "two"

        place("exec", "/web-1", "busybox", "mv", "/srv/index.html", "/srv/hidden")
        until(lambda: place.shares(10) == {"web-2": 10}, 10)
        place("exec", "/web-1", "busybox", "mv", "/srv/hidden", "/srv/index.html")
        until(lambda: set(place.shares(10)) == {"web-1", "web-2"}, 10)
