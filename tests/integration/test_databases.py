"""Databases of stacks are restored completely or not at all, whatever fails or is killed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Program, Result
from tests.integration.conftest import until

pytestmark = [pytest.mark.integration, pytest.mark.long]

STACK = "name: {name}\ncontainers: {{db: {{database: {kind}}}}}\ncluster: {{engine: native}}\n"
DATABASE = "/usr/local/lib/boxwright/database"


class Place:
    """A stack with a database alone."""

    process: subprocess.Popen[str]

    def __init__(self, program: Program, directory: Path, kind: str) -> None:
        self.program = program
        self.directory = directory
        self.name = f"db{os.getpid()}"
        (directory / "autopilot.yaml").write_text(STACK.format(name=self.name, kind=kind))

    def __call__(self, *words: str | Path, status: int | None = 0, stdin: str | None = None) -> Result:
        return self.program(*words, cwd=self.directory, status=status, stdin=stdin)

    def shell(self, script: str, status: int | None = 0) -> str:
        return str(self("exec", "/db", "sh", "-c", script, status=status).out)

    def restore(self, content: str, status: int | None = 0) -> str:
        return str(self("db", "restore", "-y", "/db", "-", status=status, stdin=content).err)

    def begin(self, content: str) -> subprocess.Popen[str]:
        """A restore, while it goes on."""
        (self.directory / "content.sql").write_text(content)
        return self.program.start("db", "restore", "-y", "/db", "content.sql", cwd=self.directory)

    def backup(self) -> str:
        return str(self("db", "backup", "/db", "-").out)

    def answers(self) -> bool:
        return self("db", "backup", "/db", "-", status=None).status == 0

    def kill_inside(self) -> None:
        """The restore and its client, as the kernel does where memory runs out."""
        self.shell(
            "for it in /proc/[0-9]*; do"
            " [ $it = /proc/$$ ] || ! tr '\\0' ' ' <$it/cmdline 2>/dev/null |"
            " grep -qE 'database restore|^(psql|mariadb) |/(psql|mariadb) ' || kill -9 ${it#/proc/}; done; true"
        )


@pytest.fixture
def place(boxwright: Program, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    made = Place(boxwright, tmp_path, request.param)
    try:
        made("deploy")
        yield made
    finally:
        made("destroy", "--yes", "--volumes", status=None)


def begin_and_wait(place: Place, content: str) -> None:
    """Until the old content is kept, and the new one is loaded."""
    place.process = place.begin(content + WAITS_LATE)
    until(lambda: "before.sql\n" in place.shell("ls /var/lib/dbase"))
    until(lambda: "v.frm" in place.shell("ls /var/lib/dbase/data/app"))


def ended(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=60)
    return process.returncode


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_postgresql_is_restored_completely_or_not_at_all(place: Place) -> None:
    place.restore("CREATE TABLE t (a text); INSERT INTO t VALUES ('old');")
    before = place.backup()
    assert "old" in before
    # What does not load, and what does not arrive.
    assert "there still" in place.restore("INSERT INTO t VALUES ('new');", status=1)
    part = place("exec", "-i", "/db", DATABASE, "restore", "99", stdin="CREATE TABLE u (a text);", status=1)
    assert "a part of the content" in part.err
    assert place.backup() == before
    # Killed while it is loaded, and between the names.
    process = place.begin("CREATE TABLE u (a text); SELECT pg_sleep(60);")
    psql = "psql -qtAX -h /run/dbase -U postgres"
    become = "setpriv --reuid=postgres --regid=postgres --clear-groups"
    names = f"{become} {psql} -c \"SELECT datname FROM pg_database WHERE datname LIKE 'app%'\""
    until(lambda: "app_new" in place.shell(names))
    place.kill_inside()
    assert ended(process) == 1
    assert place.backup() == before
    place.shell(f"{become} {psql} -c 'DROP DATABASE app_new WITH (FORCE)' -c 'ALTER DATABASE app RENAME TO app_new'")
    place("stop", "-t", "0", f"{place.name}-db-1-g1")
    place("deploy")
    until(place.answers)
    assert place.backup() == before
    # Who connects again and again does not keep it from being done.
    script = f"while :; do {become} {psql} -d app -c 'SELECT pg_sleep(60)' >/dev/null 2>&1; done"
    with place.program.start("exec", "/db", "sh", "-c", script, cwd=place.directory) as busy:
        until(lambda: "pg_sleep" in place.shell("cat /proc/[0-9]*/cmdline | tr '\\0' ' '"))
        place.restore("CREATE TABLE t (a text); INSERT INTO t VALUES ('new');")
        place.shell("kill -9 $(grep -lsa 'while :' /proc/[0-9]*/cmdline | cut -d/ -f3 | grep -v $$); true")
        busy.communicate(timeout=20)
    assert "new" in place.backup()
    assert place.shell(names) == "app\n"


MARIADB = """\
CREATE TABLE t (a VARCHAR(9)); INSERT INTO t VALUES ('{word}');
CREATE VIEW v AS SELECT a FROM t;
CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.a = UPPER(NEW.a);
CREATE PROCEDURE p() SELECT 1;
"""
FAILS_LATE = """\
DELIMITER //
BEGIN NOT ATOMIC IF DATABASE() = 'app' THEN SIGNAL SQLSTATE '45000'; END IF; END //
"""
WAITS_LATE = "SELECT SLEEP(IF(DATABASE() = 'app', 60, 0));\n"


@pytest.mark.parametrize("place", ["mysql"], indirect=True)
def test_mariadb_is_restored_completely_or_not_at_all(place: Place) -> None:
    place.restore(MARIADB.format(word="old"))
    before = place.backup()
    assert "'old'" in before
    new = MARIADB.format(word="new")
    assert "there still" in place.restore(new + "nonsense;", status=1)
    assert "there still" in place.restore(new + FAILS_LATE, status=1)
    part = place("exec", "-i", "/db", DATABASE, "restore", "99", stdin=new, status=1)
    assert "a part of the content" in part.err
    assert place.backup() == before
    # Killed while the new content is loaded in the place of the old one: the process, then the whole instance.
    begin_and_wait(place, new)
    place.kill_inside()
    assert ended(place.process) == 1
    assert place.backup() == before
    begin_and_wait(place, new)
    place("stop", "-t", "0", f"{place.name}-db-1-g1")
    assert ended(place.process) == 1
    place("deploy")
    until(lambda: "before" not in place.shell("ls /var/lib/dbase"))
    until(place.answers)
    assert place.backup() == before
    place.restore(new)
    assert "'new'" in place.backup()
    assert "before" not in place.shell("ls /var/lib/dbase")
