"""Manifests: built natively, with all that they ask of files, servers and containers."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.integration.manifests.conftest import ECHO, Project, files_of, suites

pytestmark = pytest.mark.integration


WHOLE = """\
image: {base}
vars: {colours: [red, blue]}
files:
  - {src: conf, dest: /etc/app, mode: "0640", owner: app}
templates:
  - {src: site.j2, dest: /etc/site.conf}
install:
{% for colour in colours %}
  - echo {{ colour }} >>/colours
{% endfor %}
script:
  - {name: there, run: test -s /colours && touch /trace}
  - {name: chain, run: [echo x >/x, test -s /x]}
env: {COLOUR: "{{ colours[0] }}"}
command: [/bin/cat, /colours]
artifact: whole/{{ project }}
"""


def test_a_manifest_becomes_an_image(boxwright: Program, project: Project, tmp_path: Path) -> None:
    files = {"conf/app.ini": "ini", "conf/sub/more": "more", "site.j2": "{{ colours | join(' ') }} {{ project }}\n"}
    place = project(WHOLE, files)
    first = boxwright("build", place, "--junit", tmp_path / "r.xml")
    assert "whole/project:latest" in first.out
    assert suites(tmp_path / "r.xml") == {"there": ["passed"], "chain": ["passed", "passed"]}
    assert boxwright("run", "--rm", "whole/project").out == "red\nblue\n"
    tree = files_of(boxwright, tmp_path / "tree", "whole/project")
    assert tree["etc/app/app.ini"] == b"ini"
    assert tree["etc/site.conf"] == b"red blue project\n"
    assert "trace" not in tree
    assert "x" not in tree
    status = (tmp_path / "tree/etc/app/sub/more").stat()
    assert (oct(status.st_mode & 0o7777), status.st_uid) == ("0o640", 1000)
    again = boxwright("build", place, "--junit", tmp_path / "r.xml")
    assert again.err.count("CACHED") == len(again.err.splitlines())
    assert again.out.split()[1] == first.out.split()[1]
    assert suites(tmp_path / "r.xml")["there"] == ["system-out"]


def test_a_failing_validation_keeps_the_image_back(boxwright: Program, project: Project, tmp_path: Path) -> None:
    place = project(
        "image: {base}\nscript:\n  - {name: good, run: echo good}\n  - {name: bad, run: [echo why; sleep 1, exit 3]}\n"
        "artifact: held/back\n"
    )
    done = boxwright("build", place, "-o", f"tar:{tmp_path / 'out.tar'}", "--junit", tmp_path / "r.xml", status=1)
    assert "[step.failed]" in done.err
    assert "manifest.yaml:4:5" in done.err
    assert not (tmp_path / "out.tar").exists()
    assert "held/back" not in boxwright("images", "--names").out
    assert suites(tmp_path / "r.xml") == {"good": ["passed"], "bad": ["passed", "failure"]}
    assert "held/back" in boxwright("build", place, "--no-validate").out


def test_what_counts_makes_it_build_again(boxwright: Program, project: Project) -> None:
    manifest = (
        "include: [more.yaml]\nimage: {base}\ntemplates: [{src: t, dest: /t}]\ninstall: [echo {{ env('COLOUR') }}]\n"
    )
    place = project(manifest, {"t": "{{ a }}", "more.yaml": "vars: {a: one}\n"})
    red = boxwright.with_environment(COLOUR="red")

    def built(program: Program = red, *more: str) -> int:
        program("build", place, *more)
        plan = program("build", place, *more, "--dry-run").out
        assert "RUN " not in plan.replace("run echo", "")
        return 0

    def waits(program: Program = red, *more: str) -> bool:
        return "never built" in program("build", place, *more, "--dry-run").out

    stamp = str(time.time_ns())
    (place / "t").write_text(f"{stamp} {{{{ a }}}}")
    assert waits()
    built()
    assert not waits()
    (place / "more.yaml").write_text(f"vars: {{a: two{stamp}}}\n")
    assert waits()
    built()
    assert waits(red, "--set", "a=three")
    assert waits(red.with_environment(COLOUR=f"blue{stamp}"))
    assert not waits()


def test_a_base_that_means_something_else_is_noticed(fresh_boxwright: Program, project: Project) -> None:
    base = project("image: {base}\ninstall: [echo one >/which]\nartifact: own/base\n", name="base")
    place = project("image: own/base\ninstall: [cat /which]\n", name="above")
    fresh_boxwright("build", base)
    fresh_boxwright("build", place)
    (base / "manifest.yaml").write_text((base / "manifest.yaml").read_text().replace("one", "two"))
    fresh_boxwright("build", base)
    assert "two" in fresh_boxwright("build", place, "--progress", "plain").err


def test_a_toolbox_leaves_no_byte(boxwright: Program, project: Project, tmp_path: Path) -> None:
    plain = project("image: {base}\ninstall: [echo x >/x]\nartifact: box/without\n", name="without")
    tools = {"tools/say": "#!/bin/sh\necho x\n"}
    manifest = (
        "image: {base}\ntoolbox: [{src: tools, dest: /opt/box}, {image: '{base}', dest: /other}]\n"
        "install: [sh /opt/box/say >/x && test -x /other/bin/busybox, '! touch /opt/box/new && ! touch /other/new']\n"
        "artifact: box/with\n"
    )
    place = project(manifest, tools, name="with")
    boxwright("build", plain)
    boxwright("build", place)
    assert files_of(boxwright, tmp_path / "a", "box/with") == files_of(boxwright, tmp_path / "b", "box/without")
    names = {str(it.relative_to(tmp_path / "a")) for it in (tmp_path / "a").rglob("*")}
    assert not {"opt", "other"} & names


def test_facts_of_the_machine_from_a_toolbox(boxwright: Program, project: Project, tmp_path: Path) -> None:
    """What runs in a container asks for them; nothing of the toolbox stays, neither of a build nor of a container."""
    host = json.loads(boxwright("facts", "--host", "--json").out)
    known = {name: str(host[name]) for name in ("kernel", "memory", "cpus")}
    plain = project("image: {base}\ninstall: [echo x >/x]\nartifact: facts/without\n", name="without")
    manifest = (
        "image: {base}\ntoolbox: {facts: true, dest: /opt/box}\n"
        "install:\n"
        '  - echo x >/x && /opt/box/facts | test -n "$(cat)" && ! touch /opt/box/new && ! rm /opt/box/facts\n'
        f'  - test "$(/opt/box/facts host.kernel host.cpus)" = "$(printf \'{known["kernel"]}\\n{known["cpus"]}\')"\n'
        "artifact: facts/with\n"
    )
    boxwright("build", plain)
    boxwright("build", project(manifest, name="with"))
    assert files_of(boxwright, tmp_path / "a", "facts/with") == files_of(boxwright, tmp_path / "b", "facts/without")
    run = ("run", "--network", "none", "--toolbox")
    said = boxwright(*run, "--name", "toolboxed", "facts/with", "/toolbox/facts").out
    found = dict(line.split("=", 1) for line in said.splitlines())
    assert {name: found[f"host.{name}"] for name in known} == known
    assert boxwright(*run, "--rm", "facts/with", "/toolbox/facts", "host.none", status=1).err
    boxwright(*run, "--rm", "facts/with", "touch", "/toolbox/new", status=1)
    boxwright("commit", "toolboxed", "facts/committed")
    boxwright("rm", "toolboxed")
    assert files_of(boxwright, tmp_path / "c", "facts/committed") == files_of(boxwright, tmp_path / "a", "facts/with")


def test_facts_without_a_shell(boxwright: Program, tmp_path: Path) -> None:
    """The program is a script: where the image has no shell it can't be started."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/Recipe").write_text("FROM scratch\nCOPY Recipe /\n")
    boxwright("build", tmp_path / "empty", "-t", "facts/no-shell")
    words = ("run", "--rm", "--network", "none", "--toolbox", "facts/no-shell", "/toolbox/facts")
    boxwright(*words, status=127)


def test_services_run_beside_commands_and_test_starts_the_image(
    boxwright: Program, project: Project, tmp_path: Path
) -> None:
    place = project(
        f"""\
image: {{base}}
services:
  talker: {{image: "{{base}}", command: "echo ready to talk; {ECHO}", port: 7000, environment: {{PATH: /bin}}}}
install:
  - test "$(busybox nc talker 7000)" = 'it answers' && echo $TALKER_HOST:$TALKER_PORT >/where
  - mkdir -p /www && echo page >/www/index.html
script:
  - busybox nc $TALKER_HOST $TALKER_PORT | busybox grep answers
command: busybox httpd -vv -f -p 8080 -h /www
ports: ["8080"]
test:
  commands:
    - name: the page
      run: [busybox wget -q -O - http://app:8080/index.html | busybox grep page, busybox nc talker 7000]
    - {{run: "! busybox wget -q -O - http://app:8080/none", image: x}}
artifact: with/services
""".replace(", image: x", "")
    )
    done = boxwright("build", place, "--junit", tmp_path / "r.xml", "--progress", "plain")
    assert suites(tmp_path / "r.xml")["the page (test)"] == ["passed"], done
    assert boxwright("run", "--rm", "with/services", "cat", "/where").out == "127.0.0.1:7000\n"
    (place / "manifest.yaml").write_text((place / "manifest.yaml").read_text().replace("grep page", "grep else"))
    failed = boxwright("build", place, "--junit", tmp_path / "r.xml", "--progress", "plain", status=1)
    assert "[step.failed]" in failed.err
    assert suites(tmp_path / "r.xml")["the page (test)"] == ["failure"]
    # What the services and the image itself wrote is collected.
    for told in (failed.err, (tmp_path / "r.xml").read_text()):
        assert "the end of what talker wrote:" in told
        assert "ready to talk" in told
        assert "url:/index.html" in told


READY = "busybox sleep 1; busybox mkdir /www; echo well >/www/index.html; exec busybox httpd -f -p 8080 -h /www"


@pytest.mark.parametrize(
    "way",
    ["ready: {command: CHECK}", "ready: {port: 8080, command: CHECK}", "healthcheck"],
    ids=["command", "both", "its own"],
)
def test_the_image_is_waited_for_until_it_is_well(boxwright: Program, project: Project, way: str) -> None:
    check = "busybox wget -q -O - http://127.0.0.1:8080/"
    own = f"healthcheck: {{command: '{check}'}}\n" if way == "healthcheck" else ""
    ready = "" if own else f"  {way.replace('CHECK', check)}\n"
    text = f"image: {{base}}\ncommand: '{READY}'\n{own}test:\n{ready}  commands: ['{check} | busybox grep well']\n"
    boxwright("build", project(text))


def test_branches_run_at_the_same_time(boxwright: Program, project: Project) -> None:
    place = project(f"image: {{base}}\ninstall: [echo {time.time_ns()}]\nscript: [sleep 2, sleep 2.0]\n")
    events = [json.loads(line) for line in boxwright("build", place, "--progress", "json").out.splitlines()]
    steps = {it["step"] for it in events[0]["steps"] if it["title"].startswith("run sleep")}
    order = [it["event"] for it in events if it.get("step") in steps and it["event"] in ("started", "finished")]
    assert order == ["started", "started", "finished", "finished"]


@pytest.mark.parametrize(
    ("service", "code"),
    [
        ("{image: '{base}', command: 'echo no luck; exit 7', port: 7000}", "service.not-started"),
        ("{image: '{base}', command: 'sleep 1; exit 0'}", "service.failed"),
    ],
    ids=["never answers", "ends while it is needed"],
)
def test_a_service_that_ends_is_an_error_that_shows_what_it_said(
    boxwright: Program, project: Project, service: str, code: str
) -> None:
    place = project(f"image: {{base}}\nservices: {{box: {service}}}\ninstall: [sleep 3]\n")
    done = boxwright("build", place, status=1)
    assert f"[{code}]" in done.err
    assert "the service ended by itself" in done.err


@pytest.mark.long
def test_a_database_beside_the_build_keeps_what_steps_wrote(
    boxwright: Program, project: Project, tmp_path: Path
) -> None:
    read = "PGPASSWORD=$DB_PASSWORD psql -At -h $DB_HOST -p $DB_PORT -U $DB_USER $DB_NAME -c"
    place = project(
        f"""\
image: debian:bookworm
services: {{db: postgresql}}
install:
  - apt: [postgresql-client]
  - {read} 'create table t (x int)'
script:
  - {{name: one, run: ["{read} 'insert into t values (1)'", test "$({read} 'select count(*) from t')" = 1]}}
  - {{name: two, run: ["{read} 'insert into t values (2)'", test "$({read} 'select count(*) from t')" = 1]}}
artifact: with/database
"""
    )
    boxwright("build", place, "--junit", tmp_path / "r.xml")
    assert suites(tmp_path / "r.xml") == {"one": ["passed"] * 2, "two": ["passed"] * 2}


def test_a_matrix_keeps_the_entries_that_pass(boxwright: Program, project: Project) -> None:
    place = project(
        "image: {base}\nmatrix: {n: ['1', '2', '3']}\ninstall: [echo {{ matrix.n }} >/n]\n"
        "script: [test {{ matrix.n }} != 2]\nartifact: several:{{ matrix.n }}\n"
    )
    done = boxwright("build", place, status=1)
    assert {line.split()[0] for line in done.out.splitlines()} == {"several:1", "several:3"}
    assert boxwright("run", "--rm", "several:3", "cat", "/n").out == "3\n"
    assert "several:2" not in boxwright("images", "--names").out
    one = boxwright("build", place, "--matrix", "n=1", "-t", "chosen")
    assert "chosen:latest" in one.out


def layers_made(program: Program) -> int:
    """How many layers the store has ever had."""
    with sqlite3.connect(program.home / "index.db") as index:
        return int(index.execute("SELECT seq FROM sqlite_sequence WHERE name = 'layers'").fetchone()[0])


def test_facts_and_conditions(boxwright: Program, project: Project) -> None:
    place = project(
        "image: {base}\ninstall:\n  - {run: echo arch {{ facts.architecture }}}\n"
        "  - {run: echo small, when: facts.memory > 0 and facts.package_manager is undefined}\n"
        "  - {run: echo here {{ host.architecture }}, when: host.cpus > 0}\n"
    )
    said = boxwright("build", place, "--progress", "plain").err
    machine = os.uname().machine
    assert f"arch {machine}" in said
    assert "echo small" in said
    assert f"here {machine}" in said
    image = place.joinpath("manifest.yaml").read_text().split()[1]
    facts = json.loads(boxwright("facts", image, "--json").out)
    assert facts["architecture"] == machine
    assert facts["memory"] > 100
    assert "distribution" not in facts
    made = layers_made(boxwright)
    assert json.loads(boxwright("facts", image, "--json").out) == facts
    assert layers_made(boxwright) == made, "they are kept: nothing is run again"
    host = json.loads(boxwright("facts", "--host", "--json").out)
    assert host["cpus"] == os.cpu_count()
