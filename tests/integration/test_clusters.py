"""Stacks on a three-member LXD cluster: each member in a network namespace of this machine."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Program
from tests.integration.cluster import Cluster, Member, at_directory, new_cluster, remove_leftovers, status
from tests.integration.conftest import until
from tests.integration.test_stacks import RECIPE, START

pytestmark = [pytest.mark.integration, pytest.mark.engine("lxd")]
long = pytest.mark.long

PORT = 8080
STACK = """\
name: meshed
containers:
  web:
    build: ./web
    replicas: {replicas}
    ports: ["8080:80"]
    links: [api]
    healthcheck: {{http: /index.html, port: 80, interval: 300ms, retries: 2}}
  api:
    build: ./api
    volumes: ["data:/srv/data"]
    healthcheck: {{port: 80, interval: 300ms}}
cluster: {{engine: lxd}}
"""


@pytest.fixture(scope="module")
def program(session_home: Path) -> Program:
    return Program(session_home)


@pytest.fixture(scope="module")
def cluster(program: Program) -> Iterator[Cluster]:
    remove_leftovers()
    made = new_cluster()
    try:
        made.up(program)
        yield made
    finally:
        made.down()


class Place:
    """A stack's directory, and the program on each member."""

    watch: tuple[str, ...] = ("watch", "meshed", "--engine", "lxd", "--interval", "1")

    def __init__(self, cluster: Cluster, program: Program, directory: Path) -> None:
        self.cluster = cluster
        self.program = program
        self.directory = directory

    def write(self, replicas: int = 3, page: str = "web one") -> None:
        (self.directory / "autopilot.yaml").write_text(STACK.format(replicas=replicas))
        (self.directory / "web/page").write_text(f"{page}\n")

    def on(self, member: int) -> Callable[..., Any]:
        """The program on a member, in the stack's directory."""
        found = self.cluster.program(self.program, member)
        return lambda *words, **more: found(*words, cwd=self.directory, **more)

    def status(self, member: int = 1) -> dict[str, dict[str, Any]]:
        return status(self.on(member)("status", "--json", status=None))

    def well(self, member: int, names: set[str]) -> bool:
        """Whether all of these are well, as this member sees it."""
        found = self.status(member)
        return all(found.get(it, {}).get("health") == "well" for it in names)

    @contextlib.contextmanager
    def watched(self, *members: int, more: tuple[str, ...] = ()) -> Iterator[list[subprocess.Popen[str]]]:
        """`watch` on these members, each with a store of its own, which has no image."""
        homes = [self.program.at(self.directory / f"watcher{it}") for it in members]
        words = (*self.watch, *more)
        started = [self.cluster.program(at, it).start(*words) for at, it in zip(homes, members, strict=True)]
        try:
            yield started
        finally:
            for process in started:
                process.send_signal(signal.SIGTERM)
            for process in started:
                assert "Traceback" not in process.communicate(timeout=90)[1]


@pytest.fixture
def place(
    cluster: Cluster, program: Program, tmp_path_factory: pytest.TempPathFactory, busybox_base: Path
) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("meshed")
    for part in ("web", "api"):
        (directory / part).mkdir()
        (directory / part / "Recipe").write_text(RECIPE.format(base=busybox_base))
        (directory / part / "page").write_text(f"{part} one\n")
        (directory / part / "start").write_text(START)
        (directory / part / "start").chmod(0o755)
    # Images whose recipes need a network are built outside of the members' namespaces.
    program("build", ROOT / "images/haproxy", "-q", "-t", "boxwright/haproxy", timeout=600)
    made = Place(cluster, program, directory)
    made.write()
    yield made
    made.on(1)("destroy", "--yes", "--volumes", status=None)


def ask(cluster: Cluster, member: Member, path: str = "/index.html", body: bytes | None = None) -> tuple[int, str]:
    """One request from a machine beside the members: status and text; 0 with the error where there is no answer."""

    def work() -> tuple[int, str]:
        with cluster.outside():
            connection = http.client.HTTPConnection(member.address, PORT, timeout=15)
            try:
                connection.request("GET" if body is None else "POST", path, body)
                answer = connection.getresponse()
                return answer.status, answer.read().decode().strip()
            except (OSError, http.client.HTTPException) as error:
                return 0, repr(error)
            finally:
                connection.close()

    with ThreadPoolExecutor(1) as pool:  # a thread of its own: the namespace is the thread's
        return pool.submit(work).result()


@contextlib.contextmanager
def asking(cluster: Cluster, member: Member, rate: float) -> Iterator[list[tuple[float, int, str]]]:
    """So many requests a second, each with a connection of its own, while the block runs: their times and answers."""
    answers: list[tuple[float, int, str]] = []
    stop = threading.Event()
    threads = 4
    began = time.monotonic()

    def work(first: float) -> None:
        with cluster.outside():
            due = began + first / rate
            while not stop.wait(max(0.0, due - time.monotonic())):
                due += threads / rate
                asked = time.monotonic()
                connection = http.client.HTTPConnection(member.address, PORT, timeout=15)
                try:
                    connection.request("GET", "/index.html")
                    answer = connection.getresponse()
                    answers.append((asked - began, answer.status, answer.read().decode().strip()))
                except (OSError, http.client.HTTPException) as error:
                    answers.append((asked - began, 0, repr(error)))
                finally:
                    connection.close()

    started = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in started:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in started:
            thread.join()


def test_a_stack_is_spread_over_the_members_and_answers_on_each(place: Place) -> None:
    cluster = place.cluster
    assert "create web-1: it is not there (on node" in place.on(1)("deploy").err
    found = place.status(2)
    assert {it["health"] for it in found.values()} == {"well"}
    for container in ("web", "lb"):
        assert {found[f"{container}-{number}"]["member"] for number in (1, 2, 3)} == {"node1", "node2", "node3"}
    for member in cluster.members:
        assert {ask(cluster, member, "/who") for _ in range(6)} == {(200, f"web-{it}") for it in (1, 2, 3)}
    for name in ("web-1", "web-2", "web-3"):
        assert place.on(3)("exec", f"/{name}", "wget", "-qO-", "http://api/index.html").out == "api one\n"
        assert place.on(1)("exec", f"/{name}", "wget", "-qO-", "http://web-2/who").out == "web-2\n"
    assert place.on(2)("deploy").out == "meshed: nothing to do\n"
    kept = [
        {it.name for it in (member.directory / "images").iterdir() if ".rootfs" not in it.name}
        for member in cluster.members
    ]
    assert kept[0] == kept[1] == kept[2]
    assert len(kept[0]) == 3, "each image once"
    assert place.on(1)("cluster", "status").out.count("Fully operational") == 3


def test_joining_and_evacuating_refuse_what_makes_no_sense(cluster: Cluster, program: Program) -> None:
    on = cluster.program(program, 2)
    assert "[cluster.token]" in on("cluster", "join", "--address", "10.1.1.102", stdin="nonsense\n", status=2).err
    assert "[cluster.name-taken]" in on("cluster", "invite", "node3", status=1).err
    token = on("cluster", "invite", "node4").out
    assert "[cluster.member]" in on("cluster", "join", "--address", "10.1.1.102", stdin=token, status=1).err
    assert "[cluster.member]" in on("cluster", "init", "--address", "10.1.1.102", status=1).err
    assert "[cluster.no-member]" in on("cluster", "evacuate", "node9", status=1).err
    assert "[usage.offline-after]" in on("cluster", "init", "--address", "::1", "--offline-after", "3", status=2).err
    alone = program("cluster", "status", status=1)
    assert "[cluster.none]" in alone.err


@long
def test_no_request_fails_in_an_update_a_scaling_and_an_evacuation(place: Place) -> None:
    """200 requests a second through the load balancer of a member that stays."""
    place.on(1)("deploy")
    place.on(1)("exec", "/api", "sh", "-c", "echo kept > /srv/data/file")
    home = place.status()["api-1"]["member"]
    others = [it for it in place.cluster.members if it.name != home]
    with asking(place.cluster, others[0], 200) as answers:
        place.write(page="web two")
        place.on(1)("deploy")
        place.on(1)("scale", "web=6")
        place.on(1)("cluster", "evacuate", others[1].name)
    assert {(code, text) for _, code, text in answers} == {(200, "web one"), (200, "web two")}
    assert len(answers) / answers[-1][0] > 150, "the machine could not ask so often"
    found = place.status()
    assert {f"web-{it}" for it in range(1, 7)} < set(found)
    assert others[1].name not in {it["member"] for it in found.values()}
    place.on(1)("cluster", "restore", others[1].name)
    assert {it["member"] for name, it in place.status().items() if name.startswith("lb")} == {"node1", "node2", "node3"}
    assert place.on(1)("exec", "/api", "cat", "/srv/data/file").out == "kept\n"


@long
def test_what_has_a_volume_waits_while_its_member_is_evacuated(place: Place) -> None:
    place.on(1)("deploy")
    place.on(1)("exec", "/api", "sh", "-c", "echo kept > /srv/data/file")
    home = place.status()["api-1"]["member"]
    place.on(1)("cluster", "evacuate", home)
    try:
        found = place.status()
        assert (found["api-1"]["state"], found["api-1"]["member"]) == ("stopped", home)
        assert f"wait api-1: {home} takes no instances now" in place.on(1)("deploy").err
    finally:
        place.on(1)("cluster", "restore", home)
    assert place.status()["api-1"]["health"] == "well"
    assert place.on(1)("exec", "/api", "cat", "/srv/data/file").out == "kept\n"


@long
@pytest.mark.parametrize("victim", ["leader", "home of the volume", "another"])
def test_the_instances_of_a_member_that_died_serve_elsewhere(place: Place, victim: str) -> None:
    """All stateless replicas within 30 s; what has a volume waits; what is stale goes when the member is back."""
    cluster = place.cluster
    place.on(1)("deploy")
    place.on(1)("exec", "/api", "sh", "-c", "echo kept > /srv/data/file")
    home = place.status()["api-1"]["member"]
    members = json.loads(place.on(1)("cluster", "status", "--json").out)
    leader = next(it["name"] for it in members if "database-leader" in it["roles"])
    another = next(it.name for it in cluster.members if it.name not in (home, leader))
    dead = {"leader": leader, "home of the volume": home, "another": another}[victim]
    index = int(dead[-1])
    left = [it for it in (1, 2, 3) if it != index]
    webs = {"web-1", "web-2", "web-3"}
    with place.watched(*left):
        time.sleep(3)
        cluster.kill(cluster.members[index - 1])
        until(
            lambda: place.well(left[0], webs) and dead not in {place.status(left[0])[it]["member"] for it in webs}, 30
        )
        for survivor in left:
            assert ask(cluster, cluster.members[survivor - 1])[0] == 200
        found = place.status(left[0])
        assert (found["api-1"]["state"] == "absent") == (dead == home)
        cluster.start(cluster.members[index - 1])
        until(lambda: place.well(left[0], {*webs, "api-1", "lb-1", "lb-2", "lb-3"}), 90)
        until(lambda: len(all_instances(place, left[0])) == 7, 60)
        until(lambda: place.on(left[0])("cluster", "status", status=None).status == 0, 60)
    assert place.on(left[0])("exec", "/api", "cat", "/srv/data/file").out == "kept\n"
    assert place.on(left[0])("deploy").out == "meshed: nothing to do\n"


def all_instances(place: Place, member: int) -> list[str]:
    """Of every generation."""
    found = json.loads(place.on(member)("status", "--json", status=None).out)["instances"]
    return [it["name"] for it in found]


@long
def test_a_member_that_is_cut_off_starts_nothing(place: Place) -> None:
    """The others replace what it ran; it itself can't, and nothing is there twice when it is back."""
    cluster = place.cluster
    place.on(1)("deploy")
    home = int(place.status()["api-1"]["member"][-1])
    alone = next(it for it in (1, 2, 3) if it != home)
    left = [it for it in (1, 2, 3) if it != alone]
    cut = cluster.members[alone - 1]
    before = containers_of(cut)
    with place.watched(1, 2, 3):
        time.sleep(3)
        cluster.part(cut)
        try:
            webs = {"web-1", "web-2", "web-3"}
            until(
                lambda: (
                    place.well(left[0], webs) and cut.name not in {place.status(left[0])[it]["member"] for it in webs}
                ),
                120,
            )
            assert containers_of(cut) <= before, "the losing side started something"
            assert ask(cluster, cluster.members[left[0] - 1])[0] == 200
        finally:
            cluster.mend(cut)
        until(lambda: len(all_instances(place, left[0])) == 7 and place.well(left[0], {*webs, "api-1"}), 90)
        until(lambda: place.on(left[0])("cluster", "status", status=None).status == 0, 60)
    names = [re.sub(r"-g\d+$", "", it) for it in all_instances(place, left[0])]
    assert len(names) == len(set(names))


def containers_of(member: Member) -> set[str]:
    """The containers that run there, by their monitors' command lines: also while its daemon can't be asked."""
    found: set[str] = set()
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (directory / "cmdline").read_bytes().decode(errors="replace").split()
            if words[:2] == ["[lxc", "monitor]"] and words[2].startswith(str(member.directory)):
                found.add(words[3].rstrip("\0"))
    return found


@long
def test_the_shop_from_source_to_answers(cluster: Cluster, program: Program, tmp_path: Path) -> None:
    directory = tmp_path / "shop"
    shutil.copytree(ROOT / "examples/shop", directory)
    file = directory / "autopilot.yaml"
    file.write_text(file.read_text().replace("engine: native", "engine: lxd"))
    on = cluster.program(program, 1)
    program.with_environment(**cluster.members[0].environment)("deploy", "--plan", cwd=directory, timeout=900)
    try:
        on("deploy", cwd=directory, timeout=600)
        first, second, third = cluster.members
        assert ask(cluster, first, "/", b"apples")[0] == 200
        answers = [json.loads(ask(cluster, it, "/")[1]) for it in (second, third, first, second, third, first)]
        assert {it["from"] for it in answers} == {"web-1", "web-2", "web-3"}
        assert [it["visits"] for it in answers] == [1, 2, 3, 4, 5, 6]
        assert all(it["orders"] == ["apples"] for it in answers)
        on("cluster", "evacuate", "node3", cwd=directory, timeout=600)
        on("cluster", "restore", "node3", cwd=directory, timeout=600)
        until(lambda: ask(cluster, third, "/")[0] == 200)
        assert json.loads(ask(cluster, third, "/")[1])["orders"] == ["apples"]
    finally:
        on("destroy", "--yes", "--volumes", cwd=directory)


@long
def test_a_cluster_whose_maker_was_killed_is_removed(program: Program) -> None:
    """What it made goes, what others made stays."""
    gone = subprocess.Popen(["sleep", "60"])
    made = at_directory(f"{gone.pid:x}", Path(f"/var/tmp/bwc{gone.pid:x}"))
    gone.kill()
    gone.wait()
    made.up(program)
    record = json.loads(made.record.read_text())
    made.record.write_text(json.dumps({**record, "owner": gone.pid}))
    remove_leftovers()
    made.reap()
    assert not made.record.exists()
    assert not made.directory.exists()
    assert not [it for it in Path("/run/netns").iterdir() if it.name.startswith(f"bwc{made.identity}-")]


# Builds --------------------------------------------------------------------------------------------------------------

SPREAD = """\
image: tar:BASE
matrix: {part: [a, b, c, d, e]}
install:
  - {run: echo shared >/shared, network: none}
  - {run: "echo {{ matrix.part }} >/part", network: none}
script:
  - {run: test -s /shared, network: none}
artifact: "spread:{{ matrix.part }}"
"""


@long
def test_build_containers_are_placed_by_the_cluster(
    cluster: Cluster, fresh_boxwright: Program, busybox_base: Path, tmp_path: Path
) -> None:
    (tmp_path / "manifest.yaml").write_text(SPREAD.replace("BASE", str(busybox_base)))
    member = cluster.program(fresh_boxwright, 1)
    try:
        # All but one start from a state that is on one member: its copy goes to another.
        member("build", tmp_path, "--engine", "lxd")
        instances = cluster.members[0].query("/1.0/instances?recursion=1")
        places = {it["location"] for it in instances if it["name"].startswith("boxwright-build-")}
        assert len(places) > 1
    finally:
        member("gc", "--engine", "lxd")
    said = fresh_boxwright("run", "--rm", "--network", "none", "spread:d", "cat", "/shared", "/part").out
    assert said == "shared\nd\n"
