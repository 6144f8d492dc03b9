"""DBASE: a real server beside the RUN steps, its content carried to the containers."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import tarfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ORDINARY_USER, ROOT, Program
from tests.integration.conftest import until

pytestmark = pytest.mark.integration

Context = Callable[..., Path]
CLIENT = "boxwright/postgresql:15"
"""An image with psql: the server's own, which the first build names."""
PSQL = "PGPASSWORD=$DB_PASSWORD psql -qtAX -v ON_ERROR_STOP=1 -h $DB_HOST -p $DB_PORT -U $DB_USER $DB_NAME"
TABLE = f'RUN {PSQL} -c "create table t (a text)" -c "insert into t values (1)"'


def insert(value: str) -> str:
    return f"RUN {PSQL} -c \"insert into t values ('{value}')\""


def command(script: str) -> str:
    """CMD of a shell's script."""
    return f"CMD {json.dumps(['sh', '-c', script])}\n"


@pytest.fixture
def client(boxwright: Program) -> str:
    boxwright("build", ROOT / "images/postgresql", "-q", "-t", CLIENT, "--build-arg", "SUITE=bookworm")
    return f"FROM {CLIENT}\nENTRYPOINT []\nDBASE postgresql\n"


def rows(boxwright: Program, place: Path, tmp_path: Path) -> list[str]:
    """What the image of a build comes with."""
    boxwright("build", place, "-q", "-o", f"tar:{tmp_path / 'image.tar'}")
    dump = (tmp_path / "image.tar.db.sql").read_text()
    found = re.search(r"^COPY public\.t .*?\n(.*?)^\\\.$", dump, re.MULTILINE | re.DOTALL)
    assert found, dump
    return found[1].splitlines()


def plan(boxwright: Program, place: Path) -> list[dict[str, str]]:
    out = boxwright("build", place, "--progress", "json").out
    steps: list[dict[str, str]] = json.loads(out.splitlines()[0])["steps"]
    return steps


def port_of(boxwright: Program, name: str) -> int:
    containers = json.loads(boxwright("ps", "--json").out)
    port: int = next(it for it in containers if it["name"] == name)["ports"][0]["host"]
    return port


def fetch(port: int, body: str | None = None) -> str:
    """GET, or POST of `body`, until the program listens."""
    deadline = time.monotonic() + 20
    while True:
        try:
            data = None if body is None else body.encode()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", data, timeout=10) as answer:
                text: str = answer.read().decode()
                return text
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("example", "database"),
    [pytest.param("dbase-mysql", "guestbook", marks=pytest.mark.long), ("dbase-postgresql", "db")],
)
def test_examples(boxwright: Program, example: str, database: str) -> None:
    boxwright("build", ROOT / "examples" / example, "-q", "-t", example)
    try:
        for guests in (["Ada", "Grace", "Zoë"], ["Ada", "Grace", "Zoë", "Linus"]):
            boxwright("run", "-d", "--name", example, "-p", "127.0.0.1:0:80", example)
            port = port_of(boxwright, example)
            assert fetch(port).split() == guests
            if "Linus" not in guests:
                assert fetch(port, "Linus").strip() == "Linus"
            boxwright("stop", "-t", "1", example)
            assert "running" not in boxwright("ps", "-a").out
            boxwright("rm", example)
            assert f"{example}-{database}" not in boxwright("ps", "-a").out
    finally:
        boxwright("rm", "-f", example, status=None)
    assert (boxwright.home / "volumes" / f"{example}-{database}" / "password").stat().st_mode & 0o077 == 0


def test_steps_have_the_data_of_their_place(boxwright: Program, context: Context, client: str, tmp_path: Path) -> None:
    place = context(f"{client}{TABLE}\nCOPY a /\n{insert('two')}\n", {"a": "1"})
    assert rows(boxwright, place, tmp_path) == ["1", "two"]
    assert {step["action"] for step in plan(boxwright, place)} <= {"reuse", "unused"}
    context(f"{client}{TABLE}\nCOPY a /\n{insert('three')}\n", {"a": "1"})
    actions = [step["action"] for step in plan(boxwright, place)]
    assert actions[-2:] == ["run", "run"], "the edited step and its data"
    assert set(actions[:-2]) == {"reuse", "unused"}
    assert rows(boxwright, place, tmp_path) == ["1", "three"]
    context(f"{client}{TABLE}\nCOPY a /\n{insert('three')}\n", {"a": "2"})
    assert rows(boxwright, place, tmp_path) == ["1", "three"]


def test_lost_data_is_made_again(boxwright: Program, context: Context, client: str, tmp_path: Path) -> None:
    place = context(f"{client}{TABLE}\n{insert('lost')}\n")
    assert rows(boxwright, place, tmp_path) == ["1", "lost"]
    data = next(step for step in plan(boxwright, place) if step["title"].startswith("DB: data after RUN PG"))
    with sqlite3.connect(boxwright.home / "index.db") as index:
        assert index.execute("DELETE FROM snapshots WHERE key=?", (data["key"],)).rowcount == 1
    context(f"{client}{TABLE}\n{insert('found')}\n")
    assert rows(boxwright, place, tmp_path) == ["1", "found"]


def test_dump_is_a_referrer_of_the_image(boxwright: Program, context: Context, client: str, tmp_path: Path) -> None:
    place = context(f"{client}{TABLE}\n")
    layout = tmp_path / "layout"
    boxwright("build", place, "-q", "-t", "referred", "-o", f"oci:{layout}")
    index = json.loads((layout / "index.json").read_text())
    image, referrer = index["manifests"]
    manifest = json.loads((layout / "blobs/sha256" / referrer["digest"][7:]).read_text())
    assert manifest["subject"]["digest"] == image["digest"]
    assert manifest["artifactType"] == referrer["artifactType"] == "application/vnd.boxwright.database.v1"
    layer = manifest["layers"][0]
    assert "CREATE TABLE public.t" in (layout / "blobs/sha256" / layer["digest"][7:]).read_text()
    label = json.loads(
        json.loads(boxwright("inspect", "referred").out)[0]["config"]["labels"]["dev.boxwright.databases"]
    )
    assert label == [
        {"dump": layer["digest"], "kind": "postgresql", "name": "DB", "size": layer["size"], "version": "15"}
    ]
    boxwright("build", context(f"FROM oci:{layout}\n", name="child"), "-q")


def test_the_password_stays_nowhere(boxwright: Program, context: Context, client: str, tmp_path: Path) -> None:
    place = context(f"{client}RUN echo $DB_PASSWORD && echo $DB_PASSWORD | rev > /reversed\n{TABLE}\n")
    built = boxwright("build", place, "-q", "-o", f"tar:{tmp_path / 'image.tar'}")
    with tarfile.open(tmp_path / "image.tar") as tar:
        member = tar.extractfile("reversed")
        assert member is not None
        password = member.read().decode().strip()[::-1]
    assert len(password) >= 32
    assert password not in built.out + built.err
    for directory in (boxwright.home / "l", boxwright.home / "dumps", boxwright.home / "contexts"):
        for path in directory.rglob("*"):
            if path.is_file() and not path.is_symlink():
                assert password.encode() not in path.read_bytes(), path
    assert password.encode() not in (boxwright.home / "index.db").read_bytes()


def test_output_is_redacted(boxwright: Program, context: Context, client: str) -> None:
    place = context(f"{client}RUN echo it is $DB_PASSWORD. at {time.time()}\n")
    assert "it is ***." in boxwright("build", place, "--progress", "plain").err


@pytest.mark.parametrize(
    ("command", "code", "path"),
    [
        ("mkdir /srv/app && echo x=$DB_PASSWORD > /srv/app/config", "dbase.password-in-tree", "/srv/app/config"),
        ("ln -s $DB_PASSWORD /srv/link", "dbase.password-in-tree", "/srv/link"),
        (f"{PSQL} -c \"create table p as select '$DB_PASSWORD' as p\"", "dbase.password-in-data", "DB"),
    ],
)
def test_password_that_is_kept(
    boxwright: Program, context: Context, client: str, command: str, code: str, path: str
) -> None:
    failed = boxwright("build", context(f"{client}RUN {command}\n"), status=1)
    assert f"[{code}]" in failed.err
    assert path in failed.err
    assert "Recipe:4" in failed.err


def test_a_failing_step_leaves_nothing(boxwright: Program, context: Context, client: str, tmp_path: Path) -> None:
    place = context(f"{client}{TABLE}\n{insert('lost')} && exit 7\n")
    failed = boxwright("build", place, status=None)
    assert "[step.failed]" in failed.err
    context(f"{client}{TABLE}\n{insert('kept')}\n")
    assert rows(boxwright, place, tmp_path) == ["1", "kept"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_an_interrupted_build_leaves_nothing(
    boxwright: Program, context: Context, client: str, number: int, status: int
) -> None:
    place = context(f"{client}RUN echo started {time.time()} && sleep 60\n")
    with boxwright.start("build", place, "--progress", "plain") as process:
        assert process.stderr is not None
        assert any("started " in line and "RUN" not in line for line in process.stderr)
        process.send_signal(number)
        process.communicate(timeout=20)
    assert process.returncode == status


def test_without_the_machines_network(boxwright: Program, context: Context, client: str) -> None:
    steps = "".join(f"RUN --network={kind} {PSQL} -c 'select 1' # {kind}\n" for kind in ("none", "host"))
    boxwright("build", context(f"{client}{steps}"), "-q", "--allow", "network.host")


def test_two_databases(boxwright: Program, context: Context, client: str, tmp_path: Path) -> None:
    other = PSQL.replace("DB_", "OTHER_")
    recipe = f"{client}DBASE postgresql AS other\n{TABLE}\nRUN {other} -c 'create table u ()' && getent hosts other\n"
    boxwright("build", context(recipe), "-q", "-o", f"tar:{tmp_path / 'image.tar'}")
    assert "public.t" in (tmp_path / "image.tar.db.sql").read_text()
    assert "public.u" in (tmp_path / "image.tar.other.sql").read_text()


def test_foreground(boxwright: Program, context: Context, client: str) -> None:
    show = command(f"{PSQL} -c 'select a from t'; echo $DB_PASSWORD; exit 3")
    boxwright("build", context(f"{client}{TABLE}\n{show}"), "-q", "-t", "foreground")
    said = []
    for name in ("first", "second"):
        ended = boxwright("run", "--rm", "--name", name, "--network", "none", "foreground", status=3)
        value, password = ended.out.split()
        assert value == "1"
        said.append(password)
        assert name not in boxwright("ps", "-a").out
    assert said[0] != said[1]
    assert (
        boxwright("run", "--rm", "--name", "first", "--network", "none", "foreground", status=3).out.split()[1]
        == said[0]
    )


@pytest.mark.parametrize("cleaner", ["run", "rm"])
def test_killed_while_the_server_starts(boxwright: Program, context: Context, client: str, cleaner: str) -> None:
    """Who starts server and program is killed before the program's record is there: the next one clears up."""
    boxwright("build", context(f"{client}{TABLE}\nCMD true\n"), "-q", "-t", "killed")
    boxwright("run", "--name", "other", "--network", "none", "--entrypoint", "true", CLIENT)
    with boxwright.start("run", "--rm", "--name", "shop", "killed") as process:
        until(lambda: "shop-db" in boxwright("ps", "-aq").out.split(), 20)
        process.kill()
        process.wait()
    assert set(boxwright("ps", "-aq").out.split()) == {"shop-db", "other"}
    if cleaner == "run":
        boxwright("run", "--rm", "--name", "shop", "killed")
    boxwright("rm", "other")
    assert boxwright("ps", "-aq").out == ""
    boxwright("volume", "rm", "shop-db")


@pytest.mark.usefixtures("client")
def test_embedded(boxwright: Program, context: Context) -> None:
    """The program's arguments, status, user and streams are those that it would have alone."""
    recipe = (
        f"FROM {CLIENT}\nENTRYPOINT []\nRUN useradd -u 1234 web\nDBASE postgresql embedded\n{TABLE}\nUSER web\n"
        + command(f'{PSQL} -c "select a from t"; id -un; cat; exit 4')
    )
    boxwright("build", context(recipe), "-q", "-t", "embedded")
    ran = boxwright("run", "--rm", "-i", "--network", "none", "embedded", status=4, stdin="input\n")
    assert ran.out.split() == ["1", "web", "input"]
    boxwright("run", "-d", "--name", "stopped", "--network", "none", "embedded", "sh", "-c", "echo up; exec sleep 60")
    try:
        while "up" not in boxwright("logs", "stopped").out:
            time.sleep(0.05)
        boxwright("stop", "stopped")
        assert "exited 143" in boxwright("ps", "-a").out
    finally:
        boxwright("rm", "-f", "stopped")


def test_a_version_that_debian_lacks(boxwright: Program, context: Context) -> None:
    failed = boxwright("build", context("FROM debian:bookworm\nDBASE postgresql 99\n"), status=2)
    assert "[dbase.unknown-version]" in failed.err
    assert "Recipe:2" in failed.err
    assert "17 (Debian trixie)" in failed.err


@pytest.fixture
def shared(ordinary_home: Path) -> Iterator[Path]:
    directory = ordinary_home.parent / "dbase"
    directory.mkdir(parents=True, exist_ok=True)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.ordinary_user
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.usefixtures("client")
def test_ordinary_user(boxwright: Program, ordinary_boxwright: Program, shared: Path) -> None:
    """A server's image as a root file system stands for the base, which an ordinary user's machine may not reach."""
    boxwright("export", CLIENT, f"tar:{shared}/client.tar")
    recipe = f"FROM tar:{shared}/client.tar\nDBASE postgresql\n{TABLE}\n"
    (shared / "Recipe").write_text(recipe + command(f'{PSQL} -c "select a from t"'))
    shutil.chown(shared, ORDINARY_USER, ORDINARY_USER)
    ordinary_boxwright("build", shared, "-q", "-t", "ordinary", "--network", "host")
    ran = ordinary_boxwright("run", "--rm", "--name", "ordinary", "--network", "none", "ordinary")
    assert ran.out.split() == ["1"]
