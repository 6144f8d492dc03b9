"""Networks of stacks: rules, and that stacks don't meet."""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Program, Result
from tests.integration.conftest import free_port, until

pytestmark = pytest.mark.integration

RECIPE = """\
FROM tar:{base}
RUN --network=none ln -sf busybox /bin/httpd && ln -sf busybox /bin/wget && ln -sf busybox /bin/nslookup \
    && mkdir -p /srv && echo page > /srv/index.html
COPY start /bin/start
CMD ["/bin/start"]
"""
START = """\
#!/bin/sh
trap 'exit 0' TERM
httpd -f -p 80 -h /srv &
httpd -f -p 81 -h /srv &
wait
"""
ENGINES = [
    "native",
    pytest.param("lxc", marks=[pytest.mark.engine("lxc"), pytest.mark.long]),
    pytest.param("podman", marks=[pytest.mark.engine("podman"), pytest.mark.long]),
    pytest.param("docker", marks=[pytest.mark.engine("docker"), pytest.mark.long]),
    pytest.param("lxd", marks=[pytest.mark.engine("lxd"), pytest.mark.long]),
]


@dataclass
class Stack:
    """A stack of servers, each of which is a client too."""

    program: Program
    directory: Path
    name: str
    engine: str

    def deploy(self, containers: str, more: str = "", status: int | None = 0) -> Result:
        text = f"name: {self.name}\ncontainers:\n{containers}{more}cluster: {{engine: {self.engine}}}\n"
        (self.directory / "autopilot.yaml").write_text(text)
        return self("deploy", status=status)

    def __call__(self, *words: str, status: int | None = 0) -> Result:
        return self.program(*words, cwd=self.directory, status=status)

    def reaches(self, client: str, server: str) -> bool:
        """Whether it gets the page; a name or an address, with a port."""
        words = ("exec", f"{self.name}/{client}", "wget", "-qO-", "-T", "2", f"http://{server}/index.html")
        return self(*words, status=None).out == "page\n"

    def address(self, name: str) -> str:
        lines = self("exec", f"{self.name}/{name}", "cat", "/etc/hosts").out.splitlines()
        return next(line.split()[0] for line in lines if name in line.split()[1:])


Make = Callable[[str], Stack]


@pytest.fixture(params=ENGINES)
def stack(boxwright: Program, tmp_path: Path, busybox_base: Path, request: pytest.FixtureRequest) -> Iterator[Make]:
    """`stack(NAME)` in a directory of its own, all on one engine."""
    made: list[Stack] = []

    def make(name: str) -> Stack:
        directory = tmp_path / name
        directory.mkdir()
        (directory / "Recipe").write_text(RECIPE.format(base=busybox_base))
        (directory / "start").write_text(START)
        (directory / "start").chmod(0o755)
        whole = f"{name}{os.getpid()}{time.monotonic_ns() % 10000}"
        made.append(Stack(boxwright, directory, whole, str(request.param)))
        return made[-1]

    yield make
    for it in made:
        it("destroy", "--yes", "--volumes", status=None)


def test_rules_of_a_network(stack: Make) -> None:
    shop, port = stack("rules"), free_port()
    check = "healthcheck: {http: /index.html, port: 80, interval: 200ms}"
    containers = (
        f"  db: {{build: ., networks: [back], {check}}}\n"
        f"  web: {{build: ., networks: [front, back], links: [db], ports: ['127.0.0.1:{port}:80'], {check}}}\n"
        f"  spy: {{build: ., networks: [front, back], {check}}}\n"
    )
    rules = "networks:\n  front: {deny: ['spy -> web:80']}\n  back: {allow: ['web -> db:80']}\n"
    shop.deploy(containers, rules)
    db = shop.address("db-1")
    assert shop.reaches("web", f"{db}:80")
    assert not shop.reaches("web", f"{db}:81")
    assert not shop.reaches("spy", f"{db}:80")
    # db is in one network, whose rules name nothing that it may reach.
    both = [line for line in shop("exec", "/web", "cat", "/etc/hosts").out.splitlines() if "web-1" in line]
    front, back = (line.split()[0] for line in both)
    assert not shop.reaches("db", f"{back}:80")
    assert not shop.reaches("spy", f"{front}:80")
    assert shop.reaches("spy", f"{front}:81")
    assert shop.reaches("web", f"{front}:80")  # itself
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/index.html", timeout=5) as answer:
        assert answer.read() == b"page\n"
    # A program can't change them, and a restart keeps them.
    capabilities = shop("exec", "/spy", "sed", "-n", "s/^CapBnd:\\s*//p", "/proc/1/status").out
    assert not int(capabilities, 16) & 1 << 12
    shop("restart", "/spy")
    assert not shop.reaches("spy", f"{db}:80")
    # Other rules are another deployment.
    shop.deploy(containers, rules.replace("'web -> db:80'", "'web -> db:80', 'spy -> db'"))
    assert shop.reaches("spy", f"{shop.address('db-1')}:81")
    assert shop("deploy").out.endswith("nothing to do\n")


def test_stacks_do_not_meet(stack: Make) -> None:
    one, other = stack("one"), stack("other")
    for it in (one, other):
        it.deploy("  web: {build: ., replicas: 2, healthcheck: {http: /index.html, port: 80, interval: 200ms}}\n")
    for here, there in ((one, other), (other, one)):
        address = there.address("web-2")
        assert there.reaches("web-1", f"{address}:80")
        assert not here.reaches("web-1", f"{address}:80")
        assert not here.reaches("web-1", f"{there.name}-web-2-g1:80")


@pytest.mark.long
def test_a_resolver_tells_where_services_are(stack: Make) -> None:
    """Names, and ports by RFC 2782; what comes, goes or has another address is seen within 5 s."""
    shop = stack("named")
    check = "healthcheck: {http: /index.html, port: 80, interval: 200ms}"
    containers = (
        f"  web: {{build: ., replicas: 1, environment: {{A: b}}, {check}}}\n"
        f"  client: {{build: ., links: ['web:shown'], {check}}}\n"
    )
    more = "resolver: true\nnetworks: {in: {allow: ['client -> web:80']}}\n"
    shop.deploy(containers, more)

    def asked(name: str, kind: str) -> set[str]:
        """The lines of an answer, without the server that gave it."""
        said = shop("exec", "/client", "nslookup", f"-type={kind}", name, status=None).out
        return {" ".join(it.split()) for it in said.split("\n\n", 1)[-1].splitlines() if "=" in it or "Address:" in it}

    for name in ("_80._tcp.web", "_http._tcp.web", "_http._tcp.shown"):
        assert asked(name, "srv") == {f"{name} service = 0 10 80 web-1"}
    assert asked("_443._tcp.web", "srv") == set()
    assert asked("web", "a") == asked("web-1", "a") == {f"Address: {shop.address('web-1')}"}
    assert shop.reaches("client", "web:80")
    assert not shop.reaches("client", "web:81")

    shop("scale", "web=2")
    both = {f"_http._tcp.web service = 0 10 80 web-{it}" for it in (1, 2)}
    until(lambda: asked("_http._tcp.web", "srv") == both, 5)
    before = shop.address("web-1")
    shop.deploy(containers.replace("replicas: 1", "replicas: 2").replace("A: b", "A: c"), more)
    until(lambda: asked("web-1", "a") == {f"Address: {shop.address('web-1')}"} != {f"Address: {before}"}, 5)
    shop("restart", "/dns")
    until(lambda: asked("_http._tcp.web", "srv") == both, 5)


@pytest.mark.parametrize("engine", ["native", pytest.param("podman", marks=pytest.mark.engine("podman"))])
def test_what_can_not_move_is_named_first(boxwright: Program, tmp_path: Path, engine: str) -> None:
    text = (
        "name: still\ncontainers: {web: {build: ., healthcheck: {port: 80}}}\n"
        "loadbalancer: {web: {listen: 80, address: 10.9.9.9/24, interface: eth0}}\n"
        f"cluster: {{engine: {engine}}}\n"
    )
    (tmp_path / "autopilot.yaml").write_text(text)
    (tmp_path / "Recipe").write_text("FROM scratch\nCOPY autopilot.yaml /\nCMD [x]\n")
    assert "[deploy.engine-lacks]" in boxwright("deploy", "--plan", cwd=tmp_path, status=1).err
    assert "still" not in boxwright("status", cwd=tmp_path, status=None).out
