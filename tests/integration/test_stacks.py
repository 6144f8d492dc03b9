"""Stacks through the command line, on each engine of one machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Program, Result
from tests.integration.conftest import free_port, until

pytestmark = pytest.mark.integration

RECIPE = """\
FROM tar:{base}
RUN --network=none ln -s busybox /bin/httpd && ln -s busybox /bin/wget \
    && ln -s busybox /bin/nslookup && ln -s busybox /bin/hostname
COPY page /srv/index.html
COPY start /bin/start
EXPOSE 80
CMD ["/bin/start"]
"""
START = """\
#!/bin/sh
trap 'exit 0' TERM
hostname > /srv/who
[ ! -e /srv/hidden ] || busybox mv /srv/hidden /srv/index.html
cat /srv/index.html
httpd -f -p 80 -h /srv &
wait
"""
STACK = """\
name: {name}
containers:
  web:
    build: {web}
    replicas: {replicas}
    ports: ["{port}:80"]
    links: [api]
    environment: {{COLOUR: {colour}}}
    healthcheck: {{http: /index.html, port: 80, interval: 200ms, start-period: {patience}, retries: 1}}
  api:
    build: {api}
    volumes: ["data:/srv/data"]
    healthcheck: {{port: 80, interval: 200ms}}
cluster: {{engine: {engine}}}
"""


@dataclass
class Project:
    """A stack's directory. Its values are written into the definition before each call."""

    program: Program
    directory: Path
    engine: str
    values: dict[str, Any] = field(default_factory=dict)

    def write(self, **changes: object) -> None:
        self.values.update(changes)
        (self.directory / "autopilot.yaml").write_text(STACK.format(engine=self.engine, **self.values))

    def page(self, text: str) -> None:
        (self.directory / "web/page").write_text(f"{text}\n")

    def __call__(self, *words: str, status: int | None = 0, stdin: str | None = None) -> Result:
        return self.program(*words, cwd=self.directory, status=status, stdin=stdin)

    def get(self, path: str = "/index.html") -> str:
        try:
            address = f"http://127.0.0.1:{self.values['port']}{path}"
            with urllib.request.urlopen(address, timeout=5) as answer:
                text: str = answer.read().decode().strip()
                return text
        except OSError as error:
            return f"error: {error}"

    def status(self) -> dict[str, dict[str, Any]]:
        found = json.loads(self("status", "--json", status=None).out)
        names = [it["name"] for it in found["instances"]]
        assert len(names) == len(set(names))
        return {f"{it['container']}-{it['number']}": it for it in found["instances"]}

    @property
    def name(self) -> str:
        return str(self.values["name"])


Make = Callable[..., Project]


FOREIGN = [
    pytest.param("podman", marks=pytest.mark.engine("podman")),
    pytest.param("docker", marks=[pytest.mark.engine("docker"), pytest.mark.long]),
    pytest.param("lxc", marks=[pytest.mark.engine("lxc"), pytest.mark.long]),
    pytest.param("lxd", marks=[pytest.mark.engine("lxd"), pytest.mark.long]),
]


@pytest.fixture(params=["native", pytest.param("podman", marks=[pytest.mark.engine("podman"), pytest.mark.long])])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def project(boxwright: Program, tmp_path: Path, busybox_base: Path, engine: str) -> Iterator[Project]:
    """On each engine."""
    yield from a_project(boxwright, tmp_path / "stack", busybox_base, engine)


@pytest.fixture(params=FOREIGN)
def foreign_project(
    boxwright: Program, tmp_path: Path, busybox_base: Path, request: pytest.FixtureRequest
) -> Iterator[Project]:
    """On engines of others."""
    yield from a_project(boxwright, tmp_path / "stack", busybox_base, str(request.param))


LOCAL = ["native", pytest.param("lxc", marks=[pytest.mark.engine("lxc"), pytest.mark.long])]


@pytest.fixture(params=LOCAL)
def local_project(
    boxwright: Program, tmp_path: Path, busybox_base: Path, request: pytest.FixtureRequest
) -> Iterator[Project]:
    """On engines that run instances over the store's own layers."""
    yield from a_project(boxwright, tmp_path / "stack", busybox_base, str(request.param))


@pytest.fixture
def native_project(boxwright: Program, tmp_path: Path, busybox_base: Path) -> Iterator[Project]:
    """For what is the same on each engine, or there on this one alone."""
    yield from a_project(boxwright, tmp_path / "stack", busybox_base, "native")


@pytest.fixture
def ordinary_project(ordinary_boxwright: Program, busybox_base: Path) -> Iterator[Project]:
    place = ordinary_boxwright.home.parent / "stack"
    base = ordinary_boxwright.home.parent / "stack-base.tar"
    shutil.copy(busybox_base, base)
    yield from a_project(ordinary_boxwright, place, base, "native")


def a_project(program: Program, place: Path, base: Path, engine: str) -> Iterator[Project]:
    for part in ("web", "api"):
        (place / part).mkdir(parents=True, exist_ok=True)
        (place / part / "Recipe").write_text(RECIPE.format(base=base))
        (place / part / "page").write_text(f"{part} one\n")
        (place / part / "start").write_text(START)
        (place / part / "start").chmod(0o755)
    made = Project(program, place, engine)
    values = {"web": "./web", "api": "./api", "replicas": 2, "port": free_port(), "colour": "red", "patience": "10s"}
    made.write(name=f"t{os.getpid()}{time.monotonic_ns() % 10000}", **values)
    yield made
    made("destroy", "--yes", "--volumes", status=None)


def test_a_stack_is_built_linked_and_run(local_project: Project) -> None:
    said = local_project("deploy").err
    assert "+ create web-1: it is not there" in said
    found = local_project.status()
    assert set(found) == {"web-1", "web-2", "api-1", "lb-1"}
    assert {it["health"] for it in found.values()} == {"well"}
    assert local_project.get() == "web one"
    assert {local_project.get("/who") for _ in range(8)} == {"web-1", "web-2"}

    assert local_project("exec", "/web-2", "wget", "-qO-", "http://api/index.html").out == "api one\n"
    assert local_project("exec", f"{local_project.name}/web-1", "wget", "-qO-", "http://web-2/who").out == "web-2\n"
    assert (
        local_project("exec", "/web", "sh", "-c", "echo $API_HOST $API_PORT $COLOUR; exit 7", status=7).out
        == "api 80 red\n"
    )
    log = local_project("logs").out
    assert "web-1 | web one" in log
    assert "api-1 | api one" in log
    assert "api-1" not in local_project("logs", "/web-2").out

    again = local_project("deploy")
    assert again.out == f"{local_project.name}: nothing to do\n"
    assert local_project("deploy", "--plan").out == "nothing to do\n"
    assert local_project("diff").out == f"{local_project.name}: as release 1\n"
    assert "release 1" in local_project("events").out


def test_each_engine_runs_the_same_stack(foreign_project: Project) -> None:
    """One instance of each, so that no load balancer is needed, whose image would have to be loaded first."""
    project = foreign_project
    project.write(replicas=1)
    project("deploy")
    found = project.status()
    assert {name: it["health"] for name, it in found.items()} == {"web-1": "well", "api-1": "well"}
    assert project.get() == "web one"
    assert project.get("/who") == "web-1"
    assert project("exec", "/web", "wget", "-qO-", "http://api/index.html").out == "api one\n"
    assert (
        project("exec", "/web", "sh", "-c", "echo $API_HOST $API_PORT $COLOUR; exit 7", status=7).out == "api 80 red\n"
    )
    assert "web-1 | web one" in project("logs").out
    assert project("deploy").out == f"{project.name}: nothing to do\n"
    project("exec", "/api", "sh", "-c", "echo kept > /srv/data/file")
    project.write(colour="blue")
    (project.directory / "api/page").write_text("api two\n")
    assert "environment: COLOUR" in project("deploy").err
    assert project("exec", "/web", "sh", "-c", "echo $COLOUR").out == "blue\n"
    assert project("exec", "/api", "cat", "/srv/data/file", "/srv/index.html").out == "kept\napi two\n"
    (project.directory / "web/start").write_text("#!/bin/sh\necho broken on purpose\nexit 3\n")
    assert "broken on purpose" in project("deploy", status=1).err
    assert project.get() == "web one"
    assert project("diff").out.startswith(f"{project.name}: as release 2")
    project("restart", "/api")
    assert project("exec", "/web", "wget", "-qO-", "http://api/index.html").out == "api two\n"


@pytest.mark.parametrize(
    "engine",
    [pytest.param(it, marks=[pytest.mark.engine(it), pytest.mark.long]) for it in ("podman", "docker", "lxd")]
    + [pytest.param("lxc", marks=pytest.mark.engine("lxc"))],
)
def test_an_image_of_one_program(boxwright: Program, tmp_path: Path, engine: str) -> None:
    """Nothing else is needed in it, no /etc and no shell."""
    shutil.copy("/bin/busybox", tmp_path / "busybox")
    (tmp_path / "Recipe").write_text('FROM scratch\nCOPY busybox /busybox\nCMD ["/busybox", "sleep", "1000"]\n')
    text = f"name: one{os.getpid()}\ncontainers: {{one: {{build: .}}}}\ncluster: {{engine: {engine}}}\n"
    (tmp_path / "autopilot.yaml").write_text(text)
    try:
        boxwright("deploy", cwd=tmp_path)
        assert "one-1" in boxwright("exec", "/one", "/busybox", "cat", "/etc/hosts", cwd=tmp_path).out
        assert "running" in boxwright("status", cwd=tmp_path).out
    finally:
        boxwright("destroy", "--yes", cwd=tmp_path)


@pytest.mark.long
@pytest.mark.engine("podman")
def test_what_has_a_name_already(boxwright: Program, tmp_path: Path, busybox_base: Path) -> None:
    """What an interrupted attempt left is replaced; what is somebody else's stays."""
    for project in a_project(boxwright, tmp_path / "stack", busybox_base, "podman"):
        project.write(replicas=1)
        name = f"{project.name}-api-1-g1"
        command = ["podman", "create", "--name", name, "--rootfs", str(tmp_path), "true"]
        subprocess.run([*command[:2], "--label", f"dev.boxwright.stack={project.name}", *command[2:]], check=True)
        project("deploy")
        assert project("exec", "/api", "cat", "/srv/index.html").out == "api one\n"
        project("destroy", "--yes")
        subprocess.run(command, check=True)
        try:
            assert "[deploy.name-taken]" in project("deploy", status=1).err
        finally:
            subprocess.run(["podman", "rm", name], check=True)


@pytest.mark.ordinary_user
def test_an_ordinary_user_has_stacks_too(ordinary_project: Project) -> None:
    """On a network that leads nowhere else, since not every machine lets ordinary users have one that does."""
    file = ordinary_project.directory / "autopilot.yaml"
    text = "\n".join(line for line in file.read_text().splitlines() if "ports:" not in line)
    file.write_text(f"{text}\nnetworks: {{inner: {{internal: true}}}}\n")
    ordinary_project("deploy")
    assert ordinary_project("exec", "/web-2", "wget", "-qO-", "http://api/index.html").out == "api one\n"
    ordinary_project.page("two")
    ordinary_project("deploy")
    assert ordinary_project("exec", "/web-1", "wget", "-qO-", "http://web-2/index.html").out == "two\n"
    assert ordinary_project("deploy").out.endswith("nothing to do\n")
    assert {it["generation"] for it in ordinary_project.status().values()} == {1, 2}
    ordinary_project("scale", "web=3")
    assert set(ordinary_project.status()) == {"web-1", "web-2", "web-3", "api-1"}


def test_an_update_loses_no_request_and_can_be_gone_back_from(project: Project) -> None:
    project.write(replicas=3)
    project("deploy")
    answers: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answers.append(project.get())
            time.sleep(0.005)

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    project.page("web two")
    plan = json.loads(project("deploy", "--plan", "--json").out)
    assert {it["action"] for it in plan if it["name"].startswith("web")} == {"replace"}
    assert all("the image is" in it["reason"] for it in plan if it["name"].startswith("web"))
    project("deploy")
    project("scale", "web=5")
    project("scale", "web=2")
    stop.set()
    for thread in asking:
        thread.join()
    assert set(answers) == {"web one", "web two"}, f"{len(answers)} requests"
    assert project.get() == "web two"
    assert set(project.status()) == {"web-1", "web-2", "api-1", "lb-1"}

    assert "the image is" in project("rollback", "1").err
    assert project.get() == "web one"
    assert set(project.status()) == {"web-1", "web-2", "web-3", "api-1", "lb-1"}
    project("rollback", "99", status=1)


def test_what_does_not_become_well_is_taken_back(local_project: Project) -> None:
    local_project("deploy")
    before = local_project.status()
    (local_project.directory / "web/start").write_text("#!/bin/sh\necho broken on purpose\nexit 3\n")
    failed = local_project("deploy", status=1)
    assert "broken on purpose" in failed.err
    assert "[deploy.ended]" in failed.err
    assert local_project.status() == {name: {**it, "health": "well"} for name, it in before.items()}
    assert local_project.get() == "web one"
    (local_project.directory / "web/start").write_text(START.replace("-p 80", "-p 81"))
    local_project.write(patience="500ms")
    assert "[deploy.unhealthy]" in local_project("deploy", status=1).err
    assert {name: it["generation"] for name, it in local_project.status().items()} == dict.fromkeys(before, 1)
    assert local_project.get() == "web one"


def test_the_first_deployment_that_fails_leaves_nothing_but_volumes(local_project: Project) -> None:
    (local_project.directory / "web/start").write_text("#!/bin/sh\nexit 3\n")
    local_project("deploy", status=1)
    assert local_project.status() == {}
    local_project.write(web="./none")
    failed = local_project("deploy", status=2)
    assert "autopilot.yaml:4:12" in failed.err
    assert "[stack.no-file]" in failed.err


def test_a_build_that_fails_says_why(native_project: Project) -> None:
    (native_project.directory / "web/Recipe").write_text("FROM scratch\nCOPY none /\n")
    failed = native_project("deploy", status=1)
    assert "[deploy.build]" in failed.err
    assert "none" in failed.err


@pytest.mark.parametrize(
    "after", [0.1, 0.4, 0.9, *(pytest.param(after, marks=pytest.mark.long) for after in (0.25, 0.6, 1.3))]
)
def test_killed_at_any_point_the_next_run_goes_on(local_project: Project, after: float) -> None:
    """Once while the stack is made, once while it is changed."""
    for page in ("first", "second"):
        local_project.page(page)
        process = local_project.program.start("deploy", cwd=local_project.directory)
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        local_project("deploy")
        found = local_project.status()
        assert set(found) == {"web-1", "web-2", "api-1", "lb-1"}
        assert {it["health"] for it in found.values()} == {"well"}
        assert local_project.get() == page
        assert local_project("deploy").out.endswith("nothing to do\n")


def test_what_died_is_seen_and_started_again(native_project: Project) -> None:
    native_project("deploy")
    name = native_project.status()["web-2"]["name"]
    kill_instance(native_project, name)
    until(lambda: native_project.status()["web-2"]["state"] == "stopped")
    assert native_project("status", status=1).out.count("stopped") >= 1
    drifted = native_project("diff", status=1).out
    assert "start web-2" in drifted
    native_project("deploy")
    assert native_project.status()["web-2"]["health"] == "well"
    assert native_project("restart", "/web").out == "web-1\nweb-2\n"
    assert {native_project.get("/who") for _ in range(8)} == {"web-1", "web-2"}


def test_a_watched_stack_is_kept_as_it_should_be(native_project: Project) -> None:
    """Started where it died, restarted where its check fails, left alone where it is well."""
    native_project.write(replicas=1)
    native_project("deploy")
    process = native_project.program.start("watch", "--interval", "0.2", cwd=native_project.directory)
    try:
        before = native_project.status()
        kill_instance(native_project, before["web-1"]["name"])
        until(lambda: native_project.get() == "web one", 20)
        native_project("exec", "/web", "busybox", "mv", "/srv/index.html", "/srv/hidden")
        until(lambda: "restart web-1" in native_project("events").out, 30)
        until(lambda: native_project.get() == "web one", 20)
        assert native_project.status()["api-1"] == before["api-1"]
        assert native_project("deploy").out.endswith("nothing to do\n")
    finally:
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
    assert "start web-1" in said
    assert "restart web-1" in said
    assert "Traceback" not in said
    unit = native_project("watch", native_project.name, "--unit").out
    assert f"watch {native_project.name} --engine native" in unit


def kill_instance(project: Project, name: str) -> None:
    found = json.loads(project("ps", "--json").out)
    os.kill(next(it["pid"] for it in found if it["name"] == name), signal.SIGKILL)


def test_a_volume_outlives_its_stack_and_removing_asks(local_project: Project) -> None:
    local_project("deploy")
    local_project("exec", "/api", "sh", "-c", "echo kept > /srv/data/file")
    local_project("destroy", status=2)
    assert local_project.get() == "web one"
    assert "data" in local_project("destroy", "--yes").err
    assert local_project.get().startswith("error")
    local_project("deploy")
    assert local_project("exec", "/api", "cat", "/srv/data/file").out == "kept\n"
    (local_project.directory / "api/page").write_text("api two\n")
    local_project("deploy")
    assert local_project("exec", "/api", "cat", "/srv/data/file", "/srv/index.html").out == "kept\napi two\n"
    local_project("destroy", "--yes", "--volumes")
    local_project("deploy")
    assert local_project("exec", "/api", "cat", "/srv/data/file", status=1).out == ""


def test_two_at_once_do_not_meet(local_project: Project) -> None:
    local_project("deploy")
    local_project.page("slow")
    first = local_project.program.start("deploy", cwd=local_project.directory)
    results: list[int] = []
    while first.poll() is None:
        results.append(local_project("deploy", status=None).status)
    first.communicate()
    assert first.returncode in (0, 1)
    assert set(results) <= {0, 1}
    local_project("deploy")
    assert local_project.get() == "slow"


def test_the_network_is_made_anew_where_it_is_gone(native_project: Project) -> None:
    native_project("deploy")
    place = native_project.program.home / "stacks" / native_project.name / "documents/network-default"
    os.kill(json.loads(place.read_text())["keeper"]["pid"], signal.SIGKILL)
    assert "replace network default" in native_project("deploy").err
    assert native_project("exec", "/web-1", "wget", "-qO-", "http://api/index.html").out == "api one\n"
    assert native_project.get() == "web one"


def test_a_port_that_is_taken_stops_it(local_project: Project) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("", local_project.values["port"]))
        taken.listen()
        assert "[run.port-taken]" in local_project("deploy", status=1).err
    assert local_project.status() == {}


# The shop ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "engine",
    [
        "native",
        *(pytest.param(name, marks=[pytest.mark.engine(name), pytest.mark.long]) for name in ("podman", "lxc", "lxd")),
    ],
)
def test_the_shop_from_source_to_answers(boxwright: Program, tmp_path: Path, engine: str) -> None:
    place = tmp_path / "shop"
    shutil.copytree(ROOT / "examples/shop", place)
    port = free_port()
    file = place / "autopilot.yaml"
    name = f"shop{os.getpid()}"
    text = file.read_text().replace('"8080:80"', f'"{port}:80"').replace("name: shop", f"name: {name}")
    file.write_text(text.replace("engine: native", f"engine: {engine}"))
    try:
        said = boxwright("deploy", cwd=place)
        assert "volume db-data" in said.err, "what the engine does without is named"
        url = f"http://127.0.0.1:{port}/"
        urllib.request.urlopen(url, b"apples", timeout=10).close()
        answers = [json.loads(urllib.request.urlopen(url, timeout=10).read()) for _ in range(6)]
        assert {it["from"] for it in answers} == {"web-1", "web-2", "web-3"}
        assert [it["visits"] for it in answers] == [1, 2, 3, 4, 5, 6]
        assert all(it["orders"] == ["apples"] for it in answers)
        password = boxwright("exec", f"{name}/web", "sh", "-c", "echo $DB_PASSWORD", cwd=place).out.strip()
        assert len(password) == 40
        shown = [boxwright(*words, cwd=place) for words in (["deploy", "--plan", "--json"], ["events"], ["logs"])]
        if engine == "native":
            shown += [boxwright("inspect", f"{name}-{it}-g1", cwd=place) for it in ("web-1", "db-1")]
        own = boxwright("exec", f"{name}/db", "sh", "-c", "cat /proc/[0-9]*/environ", cwd=place, status=None)
        assert password not in "".join(it.out + it.err for it in (said, own, *shown))
        password_file = boxwright("exec", f"{name}/web", "sh", "-c", "cat $DB_PASSWORD_FILE", cwd=place).out
        assert password_file == password
        boxwright("db", "backup", "/db", tmp_path / "dump.sql", cwd=place)
        urllib.request.urlopen(url, b"pears", timeout=10).close()
        (tmp_path / "bad.sql").write_text("nonsense;\n")
        assert "[db.restore]" in boxwright("db", "restore", "/db", tmp_path / "bad.sql", "-y", cwd=place, status=1).err
        words = ("exec", "-i", f"{name}/db", "/usr/local/lib/boxwright/database", "restore", "99")
        assert "only a part" in boxwright(*words, stdin="DROP TABLE orders;", cwd=place, status=1).err
        assert json.loads(urllib.request.urlopen(url, timeout=10).read())["orders"] == ["apples", "pears"]
        boxwright("db", "restore", "/db", tmp_path / "dump.sql", "-y", cwd=place)
        assert "[stack.no-secret]" in boxwright("deploy", "--rotate", "none", cwd=place, status=2).err
        rotated = boxwright("deploy", "--rotate", "db", cwd=place).err
        assert "files: /run/secrets/DBASE_PASSWORD" in rotated
        assert "environment: DB_PASSWORD" in rotated
        changed = boxwright("exec", f"{name}/web", "sh", "-c", "echo $DB_PASSWORD", cwd=place).out.strip()
        assert len(changed) == 40
        assert changed != password
        assert json.loads(urllib.request.urlopen(url, timeout=10).read())["orders"] == ["apples"]
        code = place / "web/shop.py"
        code.write_text(code.read_text().replace('VERSION = "1"', 'VERSION = "2"'))
        boxwright("deploy", cwd=place)
        answer = json.loads(urllib.request.urlopen(url, timeout=10).read())
        assert (answer["version"], answer["orders"], answer["visits"]) == ("2", ["apples"], 9)
    finally:
        boxwright("destroy", "--yes", "--volumes", cwd=place)


@pytest.mark.long
def test_a_database_of_the_image_is_filled_backed_up_destroyed_and_restored(boxwright: Program, tmp_path: Path) -> None:
    """DBASE: what the build wrote is the first content; MariaDB and PHP."""
    port = free_port()
    place = tmp_path / "guests"
    shutil.copytree(ROOT / "examples/dbase-mysql", place)
    recipe = place / "Recipe"
    recipe.write_text(recipe.read_text().replace("PORT 8080:80", f"PORT {port}:80"))
    file = place / "autopilot.yaml"
    file.write_text(file.read_text().replace("name: guests", f"name: guests{os.getpid()}"))
    guests = "Ada\nGrace\nZoë\n"
    try:
        boxwright("deploy", cwd=place)
        until(lambda: opened(port))
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", b"Linus", timeout=10).close()
        assert opened(port).decode() == f"{guests}Linus\n"
        boxwright("db", "backup", "/web-guestbook", "dump.sql", cwd=place)
        boxwright("destroy", "--yes", "--volumes", cwd=place)
        boxwright("deploy", cwd=place)
        until(lambda: opened(port))
        assert opened(port).decode() == guests
        boxwright("db", "restore", "/web-guestbook", "dump.sql", status=2, cwd=place)
        boxwright("db", "restore", "/web-guestbook", "dump.sql", "--yes", cwd=place)
        assert opened(port).decode() == f"{guests}Linus\n"
        assert "[db.none]" in boxwright("db", "backup", "/web", cwd=place, status=1).err
    finally:
        boxwright("destroy", "--yes", "--volumes", cwd=place)


def opened(port: int) -> bytes:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            data: bytes = answer.read()
            return data
    except (OSError, urllib.error.URLError):
        return b""


COMPOSE = """\
services:
  web:
    build: {context: ., dockerfile: Recipe}
    ports: ["${PORT}:80"]
    command: [httpd, -f, -p, "80", -h, /data]
    volumes: ["data:/data:ro"]
    depends_on: {job: {condition: service_completed_successfully}}
    privileged: true
    stop_grace_period: 1s
  job: {build: ., command: [sh, -c, "sleep 0.5; echo composed > /data/index.html"], volumes: ["data:/data"]}
volumes: {data: }
"""
COMPOSE_ENGINES = [
    "native",
    pytest.param("podman", marks=pytest.mark.engine("podman")),
    *(pytest.param(it, marks=[pytest.mark.engine(it), pytest.mark.long]) for it in ("docker", "lxd")),
]


@pytest.mark.parametrize("compose_engine", COMPOSE_ENGINES)
def test_a_compose_file_is_deployed(
    boxwright: Program, tmp_path: Path, busybox_base: Path, compose_engine: str
) -> None:
    """A job without `restart:` ends before what waits for it is started, and is not run again."""
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    (tmp_path / "compose.override.yaml").write_text("services: {web: {user: nobody}}\n")
    (tmp_path / "Recipe").write_text(RECIPE.format(base=busybox_base))
    (tmp_path / "page").write_text("of the image\n")
    (tmp_path / "start").write_text(START)
    (tmp_path / "start").chmod(0o755)
    port = free_port()
    program = boxwright.with_environment(PORT=str(port), COMPOSE_PROJECT_NAME=f"c{os.getpid()}")
    on = ("--engine", compose_engine)
    try:
        said = program("deploy", *on, cwd=tmp_path)
        assert "compose.yaml:8:5: privileged of the service web is not carried over" in said.err
        assert "compose.override.yaml is not read" in said.err
        until(lambda: page(port))
        assert page(port) == "composed\n"
        assert program("deploy", *on, cwd=tmp_path).out.endswith("nothing to do\n")
        assert "done" in program("status", *on, cwd=tmp_path).out
    finally:
        program("destroy", "--yes", "--volumes", *on, cwd=tmp_path)


def page(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/index.html", timeout=5) as answer:
            text: str = answer.read().decode()
            return text
    except OSError:
        return ""
