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
NET_ADMIN = 1 << 12
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

    def reached(self, client: str, *servers: str) -> set[str]:
        """Those of which it gets the page; each a name or an address, with a port."""
        asking = 'for it; do busybox timeout 2 wget -qO- "http://$it/index.html" >/dev/null 2>&1 && echo "$it"; done; :'
        done = self("exec", f"{self.name}/{client}", "sh", "-c", asking, "sh", *servers)
        return set(done.out.split())

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


CHECK = "healthcheck: {http: /index.html, port: 80, interval: 200ms}"
RULED = (
    f"  db: {{build: ., networks: [back], {CHECK}}}\n"
    f"  web: {{build: ., networks: [front, back], links: [db], ports: ['127.0.0.1:%d:80'], {CHECK}}}\n"
    f"  spy: {{build: ., networks: [front, back], {CHECK}}}\n"
)
RULES = "networks:\n  front: {deny: ['spy -> web:80']}\n  back: {allow: ['web -> db:80']}\n"


def test_rules_of_a_network(stack: Make) -> None:
    shop, port = stack("rules"), free_port()
    shop.deploy(RULED % port, RULES)
    hosts = [it.split() for it in shop("exec", "/web", "cat", "/etc/hosts").out.splitlines()]
    db = shop.address("db-1")
    front, back = (it[0] for it in hosts if "web-1" in it)
    # db is in one network, whose rules name nothing that it may reach.
    assert shop.reached("web", f"{db}:80", f"{db}:81", f"{front}:80") == {f"{db}:80", f"{front}:80"}
    assert shop.reached("spy", f"{db}:80", f"{front}:80", f"{front}:81", f"{back}:80") == {f"{front}:81"}
    assert shop.reached("db", f"{back}:80", f"{back}:81") == set()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/index.html", timeout=5) as answer:
        assert answer.read() == b"page\n"
    # A program can't change them.
    lines = shop("exec", "/spy", "cat", "/proc/1/status").out.splitlines()
    capabilities = next(line.split()[1] for line in lines if line.startswith("CapBnd:"))
    assert not int(capabilities, 16) & NET_ADMIN


@pytest.mark.long
def test_rules_stay_and_change(stack: Make) -> None:
    """A restart keeps them; other ones are another deployment."""
    shop, port = stack("kept"), free_port()
    shop.deploy(RULED % port, RULES)
    shop("restart", "/spy")
    assert shop.reached("spy", "db:80", f"{shop.address('web-1')}:81") == {f"{shop.address('web-1')}:81"}
    shop.deploy(RULED % port, RULES.replace("'web -> db:80'", "'web -> db:80', 'spy -> db'"))
    assert shop.reached("spy", "db:81") == {"db:81"}
    assert shop("deploy").out.endswith("nothing to do\n")


@pytest.mark.long
def test_stacks_do_not_meet(stack: Make) -> None:
    one, other = stack("one"), stack("other")
    for it in (one, other):
        it.deploy(f"  web: {{build: ., replicas: 2, {CHECK}}}\n")
    for here, there in ((one, other), (other, one)):
        address, name = f"{there.address('web-2')}:80", f"{there.name}-web-2-g1:80"
        assert there.reached("web-1", address) == {address}
        assert here.reached("web-1", address, name) == set()


@pytest.mark.long
def test_a_resolver_tells_where_services_are(stack: Make) -> None:
    """Names, and ports by RFC 2782; what comes, goes or has another address is seen within 5 s."""
    shop = stack("named")
    containers = (
        f"  web: {{build: ., replicas: 1, environment: {{A: b}}, {CHECK}}}\n"
        f"  client: {{build: ., links: ['web:shown'], {CHECK}}}\n"
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
    assert shop.reached("client", "web:80", "web:81") == {"web:80"}

    shop("scale", "web=2")
    both = {f"_http._tcp.web service = 0 10 80 web-{it}" for it in (1, 2)}
    until(lambda: asked("_http._tcp.web", "srv") == both, 5)
    before = shop.address("web-1")
    shop.deploy(containers.replace("replicas: 1", "replicas: 2").replace("A: b", "A: c"), more)
    until(lambda: asked("web-1", "a") == {f"Address: {shop.address('web-1')}"} != {f"Address: {before}"}, 5)
    shop("restart", "/dns")
    until(lambda: asked("_http._tcp.web", "srv") == both, 5)
