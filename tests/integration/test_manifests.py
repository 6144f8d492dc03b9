"""Manifests: built natively, with all that they ask of files, servers, modules and containers."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, Program
from tests.integration.conftest import free_port, until
from tests.integration.web import Page, Web, commit, git, serving

pytestmark = pytest.mark.integration

Project = Callable[..., Path]


@pytest.fixture
def project(tmp_path: Path, busybox_base: Path) -> Project:
    """Make a project: `project(manifest, {"a/b": "text"})`; {base} in the manifest is a small root file system."""

    def make(manifest: str, files: dict[str, str] | None = None, name: str = "project") -> Path:
        directory = tmp_path / name
        texts = {"manifest.yaml": manifest.replace("{base}", f"tar:{busybox_base}"), **(files or {})}
        for relative, text in texts.items():
            path = directory / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("{base}", f"tar:{busybox_base}"))
        return directory

    return make


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    (tmp_path / "repositories").mkdir()
    with serving(tmp_path / "repositories") as server:
        yield server


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


def files_of(program: Program, place: Path, image: str) -> dict[str, bytes]:
    program("export", image, f"rootfs:{place}")
    return {
        str(it.relative_to(place)): it.read_bytes() for it in place.rglob("*") if it.is_file() and not it.is_symlink()
    }


def suites(file: Path) -> dict[str, list[str]]:
    """The names of the suites, and how each of their cases ended."""
    root = ET.fromstring(file.read_bytes())
    return {suite.attrib["name"]: [case[0].tag if len(case) else "passed" for case in suite] for suite in root}


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


ECHO = "while true; do echo 'it answers' | busybox nc -l -p 7000; done"


def test_services_run_beside_commands_and_test_starts_the_image(
    boxwright: Program, project: Project, tmp_path: Path
) -> None:
    place = project(
        f"""\
image: {{base}}
services:
  talker: {{image: "{{base}}", command: "{ECHO}", port: 7000, environment: {{PATH: /bin}}}}
install:
  - test "$(busybox nc talker 7000)" = 'it answers' && echo $TALKER_HOST:$TALKER_PORT >/where
  - mkdir -p /www && echo page >/www/index.html
script:
  - busybox nc $TALKER_HOST $TALKER_PORT | busybox grep answers
command: busybox httpd -f -p 8080 -h /www
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
    host = json.loads(boxwright("facts", "--host", "--json").out)
    assert host["cpus"] == os.cpu_count()


# Key/value data ------------------------------------------------------------------------------------------------------


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[str]:
    """A real etcd server."""
    client, peer = free_port(), free_port()
    url = f"http://127.0.0.1:{client}"
    words = ["etcd", "--data-dir", str(tmp_path / "etcd"), "--listen-client-urls", url, "--advertise-client-urls", url]
    peers = [f"http://127.0.0.1:{peer}"]
    words += ["--listen-peer-urls", *peers, "--initial-advertise-peer-urls", *peers]
    words += ["--initial-cluster", f"default=http://127.0.0.1:{peer}"]
    with (tmp_path / "etcd.log").open("wb") as log:
        server = subprocess.Popen(words, stdout=log, stderr=log)

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", client)) == 0

    until(answers)
    yield url
    server.terminate()
    server.wait()


def put(url: str, key: str, value: str) -> None:
    body = json.dumps(
        {"key": base64.b64encode(key.encode()).decode(), "value": base64.b64encode(value.encode()).decode()}
    )
    subprocess.run(["curl", "-fsS", f"{url}/v3/kv/put", "-d", body], check=True, capture_output=True)


KV = "image: {base}\nkv: {SOURCE}\ntemplates: [{src: t, dest: /t}]\nartifact: with/kv\n"


@pytest.mark.engine("etcd")
def test_data_of_etcd_is_rendered_and_watched(boxwright: Program, project: Project, etcd: str) -> None:
    put(etcd, "app/colour", "red")
    put(etcd, "app/db/host", "one")
    put(etcd, "apple", "not this")
    place = project(KV.replace("SOURCE", f"etcd: '{etcd}', prefix: app"), {"t": "{{ kv.colour }} {{ kv.db.host }}\n"})
    boxwright("build", place)
    assert boxwright("run", "--rm", "with/kv", "cat", "/t").out == "red one\n"
    watching = boxwright.start("build", place, "--watch")
    try:
        put(etcd, "app/colour", "blue")
        until(lambda: boxwright("run", "--rm", "with/kv", "cat", "/t").out == "blue one\n", 30)
        (place / "t").write_text("{{ kv.colour }} again\n")
        until(lambda: boxwright("run", "--rm", "with/kv", "cat", "/t").out == "blue again\n", 30)
    finally:
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=30)
    assert watching.returncode == 130


def test_data_of_consul(boxwright: Program, project: Project, web: Web) -> None:
    def pair(key: str, value: str | None) -> dict[str, str | None]:
        return {"Key": key, "Value": None if value is None else base64.b64encode(value.encode()).decode()}

    pairs = [pair("app/", None), pair("app/colour", "red"), pair("app/db/host", "one")]
    web.pages["/v1/kv/app/?recurse=true"] = Page(json.dumps(pairs).encode())
    source = f"consul: '{web.url}', prefix: app, token-env: TOKEN"
    place = project(KV.replace("SOURCE", source), {"t": "{{ kv.colour }} {{ kv.db.host }}\n"})
    program = boxwright.with_environment(TOKEN="secret")
    program("build", place)
    assert program("run", "--rm", "with/kv", "cat", "/t").out == "red one\n"
    assert web.requests[-1].headers.get("X-Consul-Token") == "secret"
    assert "[kv.token]" in boxwright("build", place, status=2).err
    web.pages["/v1/kv/app/?recurse=true"] = Page(b"Permission denied", status=403)
    assert "[kv.unreachable]" in program("build", place, status=5).err
    web.pages["/v1/kv/app/?recurse=true"] = Page(b"{}")
    assert "[kv.answer]" in program("build", place, status=5).err
    web.pages["/v1/kv/app/?recurse=true"] = Page(json.dumps([pair("app/a", "x"), pair("app/a/b", "y")]).encode())
    assert "[kv.conflict]" in program("build", place, status=5).err


def test_a_server_that_is_not_there(boxwright: Program, project: Project) -> None:
    place = project(KV.replace("SOURCE", f"etcd: 'http://127.0.0.1:{free_port()}'"), {"t": "{{ kv.colour }}\n"})
    assert "[kv.unreachable]" in boxwright("build", place, status=5).err


# Modules and includes ------------------------------------------------------------------------------------------------


def test_includes_and_modules_of_git(boxwright: Program, project: Project, web: Web) -> None:
    commit(
        web.repositories / "shared.git",
        {
            "base/manifest.yaml": "files: [{src: shared.txt, dest: /shared}]\nenv: {A: shared}\n",
            "base/shared.txt": "of the repository",
            "modules/web/page/module.yaml": "name: web/page\nversion: '1.0'\nsummary: A page\n"
            "parameters: {title: {summary: what it says}}\ntemplates: [{src: page.j2, dest: /page}]\n",
            "modules/web/page/page.j2": "<h1>{{ title }}</h1>\n",
        },
    )
    address = f"{web.url}/git/shared.git"
    place = project(
        f"image: {{base}}\ninclude: ['{address}#main:base']\n"
        f"modules: [{{name: web/page, from: '{address}#main:modules', vars: {{title: Hello}}}}]\nartifact: of/git\n"
    )
    boxwright("build", place)
    assert boxwright("run", "--rm", "of/git", "cat", "/shared").out == "of the repository"
    assert boxwright("run", "--rm", "of/git", "cat", "/page").out == "<h1>Hello</h1>\n"


def test_a_module_is_begun_published_added_and_pinned(boxwright: Program, project: Project, tmp_path: Path) -> None:
    place = project("image: {base}\nartifact: with/module\n")
    made = Path(boxwright("module", "init", "web/hello", "-C", tmp_path / "work").out.strip())
    repository = tmp_path / "repository.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", repository], check=True)
    directory = tmp_path / "directory"
    boxwright("module", "publish", made, repository)
    boxwright("module", "publish", made, directory)
    boxwright("module", "publish", made, directory)  # the same content: nothing to do
    listed = git(repository, "ls-tree", "-r", "--name-only", "main")
    assert "web/hello/0.1.0/module.yaml" in listed.split()
    (made / "motd.j2").write_text("changed {{ greeting }}\n")
    assert "[module.exists]" in boxwright("module", "publish", made, directory, status=2).err

    program = boxwright.with_environment(BOXWRIGHT_MODULES=str(directory))
    assert "web/hello" in program("module", "search", "hello", "-v", "-C", place).out
    program("module", "add", "web/hello", "-C", place)
    pinned = json.loads((place / "boxwright.lock").read_text())["modules"]["web/hello"]
    assert pinned["version"] == "0.1.0"
    program("build", place)
    assert program("run", "--rm", "with/module", "cat", "/etc/motd").out == "hello\n"
    (directory / "web/hello/0.1.0/motd.j2").write_text("tampered\n")
    changed = program("build", place, status=2)
    assert "[module.changed]" in changed.err
    program("lock", place)
    program("build", place)
    assert program("run", "--rm", "with/module", "cat", "/etc/motd").out == "tampered\n"


def test_a_damaged_lock(boxwright: Program, project: Project) -> None:
    module = {"modules/a/module.yaml": "name: a\nversion: '1'\nsummary: x\n", "boxwright.lock": "{"}
    place = project("image: {base}\nmodules: [{name: a}]\n", module)
    assert "[lock.damaged]" in boxwright("build", place, status=2).err


# Other definitions ---------------------------------------------------------------------------------------------------


def test_a_travis_file_is_built_as_it_is(boxwright: Program, project: Project, tmp_path: Path) -> None:
    place = project("", {".travis.yml": TRAVIS, "check": "test -n $A && echo made\n"})
    (place / "manifest.yaml").unlink()
    (place / ".boxwright-config.yaml").write_text("languages: {c: debian:bookworm}\n")
    done = boxwright("build", place, "--junit", tmp_path / "r.xml", "--progress", "plain")
    assert suites(tmp_path / "r.xml") == {"env=A=1: script": ["passed"] * 3, "env=A=2: script": ["passed"] * 3}
    assert "'sudo' has no meaning here" in done.err
    assert done.out.count("sha256:") == 2


TRAVIS = """\
language: c
sudo: false
env: [A=1, A=2]
before_install: test "$TRAVIS" = true
install: true
before_script: echo ready >state
script:
  - test -s state && [[ -n $A ]]
  - sh check
"""


def test_recipes_and_manifests_become_each_other(boxwright: Program, project: Project, tmp_path: Path) -> None:
    recipe = """\
FROM {base}
ENV COLOUR=blue
WORKDIR /srv
COPY --chmod=0755 --chown=app:app a b/
USER app
RUN ["/bin/sh", "-c", "echo $COLOUR >b/x"]
RUN echo two >>b/x
EXPOSE 80/udp
VOLUME /data
LABEL who="me too"
HEALTHCHECK --interval=1m30s CMD test -e b/x
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["cat b/x"]
"""
    place = project("", {"Dockerfile": recipe, "a": "text"})
    (place / "manifest.yaml").unlink()
    boxwright("build", place, "-t", "first")
    written = boxwright("convert", place).out
    (place / "Dockerfile").rename(tmp_path / "Dockerfile")
    (place / "manifest.yaml").write_text(written)
    boxwright("build", place, "-t", "second")
    back = boxwright("convert", place).out
    (place / "manifest.yaml").unlink()
    (place / "Dockerfile").write_text(back)
    boxwright("build", place, "-t", "third")
    images = json.loads(boxwright("inspect", "first", "second", "third").out)
    for image in images:
        image["config"].pop("args_escaped", None)  # only a recipe's CMD has it
    assert images[0]["config"] == images[1]["config"] == images[2]["config"]
    trees = [files_of(boxwright, tmp_path / name, name) for name in ("first", "second", "third")]
    assert trees[0] == trees[1] == trees[2]


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        ("FROM {base} AS a\nFROM {base}\nCOPY --from=a /etc /x\n", 3),
        ("FROM {base}\nRUN echo a\nENV A=b\n", 2),
        ("FROM {base}\nCOPY <<E /x\na\nE\n", 2),
        ("FROM {base}\nRUN --mount=type=tmpfs,target=/x true\n", 2),
    ],
    ids=["another stage", "a variable set later", "a document", "a mount"],
)
def test_what_a_conversion_would_lose_is_named(boxwright: Program, project: Project, recipe: str, line: int) -> None:
    place = project("", {"Recipe": recipe})
    (place / "manifest.yaml").unlink()
    done = boxwright("convert", place, status=1)
    assert "[convert.loss]" in done.err
    assert f"Recipe:{line}:1: lost: " in done.err
    assert boxwright("convert", place, "--lossy").out.startswith("image: tar:")


def test_a_first_manifest_finds_language_dependencies_and_ports(boxwright: Program, tmp_path: Path) -> None:
    place = tmp_path / "Shop"
    place.mkdir()
    (place / "requirements.txt").write_text("flask>=2  # web\npsycopg2-binary\npytest\n")
    (place / "app.py").write_text("app.run(port=8123)\n")
    assert "python" in boxwright("init", place).err
    text = (place / "manifest.yaml").read_text()
    for line in ("language: python", "  - postgresql", "  - pytest", 'ports: ["8123"]', "artifact: shop:latest"):
        assert line in text.splitlines()
    assert "[init.exists]" in boxwright("init", place, status=2).err


@pytest.mark.engine("graphviz")
def test_the_graph_is_drawn(boxwright: Program, project: Project) -> None:
    place = project("image: {base}\ninstall: ['echo \"<&>\"']\nscript: [a, b]\nartifact: drawn:1\n")
    text = boxwright("graph", place).out.splitlines()
    assert text[0] == "start"
    assert text[-1] == "commit drawn:1  <- 2, 3, 4"
    dot = boxwright("graph", place, "--format", "dot").out
    judged = subprocess.run(["dot", "-Tplain"], input=dot, capture_output=True, text=True, check=True).stdout
    assert sum(line.startswith("node ") for line in judged.splitlines()) == 6
    mermaid = boxwright("graph", place, "--format", "mermaid").out
    assert mermaid.startswith("flowchart TB")
    assert "n2 --> n3" in mermaid
    svg = ET.fromstring(boxwright("graph", place, "--format", "svg").out)
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"
    assert 'echo "<&>"' in "".join(svg.itertext())


@pytest.mark.parametrize("example", ["static-site", "php-site", "c-tool", "key-values", "travis"])
def test_examples_have_a_graph(boxwright: Program, example: str) -> None:
    assert "commit " in boxwright("graph", ROOT / "examples" / example).out


def test_schemas_of_manifests_and_modules(boxwright: Program) -> None:
    for kind in ("manifest", "module"):
        schema = json.loads(boxwright("schema", kind).out)
        assert schema["title"] == f"{kind}.yaml"
    place = ROOT / "examples/hello"
    assert "[definition.not-found]" in boxwright("build", place, "-f", "x.yaml", status=2).err


def test_options_that_mean_nothing_to_a_manifest(boxwright: Program, project: Project) -> None:
    place = project("image: {base}\n")
    assert "[usage.set]" in boxwright("build", place, "--set", "a b=1", status=2).err
    assert "[usage.manifest]" in boxwright("build", place, "--build-arg", "A=1", status=2).err


def test_a_killed_build_leaves_nothing(boxwright: Program, project: Project) -> None:
    place = project(
        f"image: {{base}}\nservices: {{talker: {{image: '{{base}}', command: \"{ECHO}\", port: 7000}}}}\n"
        f"install: [echo begun {time.time_ns()}; sleep 60]\n"
    )
    process = boxwright.start("build", place, "--progress", "plain")
    assert process.stderr is not None
    for line in process.stderr:
        if "begun" in line and "DONE" not in line and line.split()[1:2] == ["begun"]:
            break
    process.kill()
    process.communicate()
    boxwright("gc")


# The modules that come with the program ------------------------------------------------------------------------------


@pytest.mark.long
def test_every_module_keeps_its_promise(boxwright: Program, tmp_path: Path) -> None:
    place = tmp_path / "all"
    place.mkdir()
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "/dev/null"),
            *("-subj", "/CN=ours", "-days", "10", "-out", str(place / "ca.pem")),
        ],
        check=True,
        capture_output=True,
    )
    (place / "manifest.yaml").write_text(MODULES)
    done = boxwright("build", place, "--set-file", f"ca={place / 'ca.pem'}", "--junit", tmp_path / "r.xml", timeout=580)
    assert "modules/all:latest" in done.out
    names = {name.removeprefix("module ").partition(":")[0] for name in suites(tmp_path / "r.xml") if "module " in name}
    shipped = {str(it.parent.relative_to(ROOT / "modules")) for it in (ROOT / "modules").rglob("module.yaml")}
    assert names == shipped
    assert len(shipped) >= 8


MODULES = """\
image: debian:bookworm
modules:
  - name: system/users
    vars:
      users:
        anna: {uid: "1500", groups: [staff, makers], sudo: "true", comment: Anna A, keys: [ssh-ed25519 AAAA anna@home]}
        bob: {shell: /bin/sh}
  - {name: net/ssh, version: "1.0", vars: {port: 2222}}
  - {name: web/php-fpm, vars: {memory_limit: 64M, extensions: [mbstring]}}
  - {name: web/nginx, version: "1.2", vars: {port: 8080, php: /run/php/php-fpm.sock, start: "false"}}
  - {name: db/postgresql-client, vars: {host: db, database: shop}}
  - {name: system/locales, vars: {locales: [de_DE.UTF-8, en_US.UTF-8], timezone: Europe/Berlin}}
  - {name: system/certs, vars: {authorities: {ours: {{ ca | tojson }}}}}
  - name: system/supervisor
    vars:
      programs:
        nginx: {command: "/usr/sbin/nginx -g 'daemon off;'"}
        php: {command: /usr/local/sbin/php-fpm -F}
        ssh: {command: /usr/local/sbin/start-sshd}
install:
  - echo '<?php echo "php ", ini_get("memory_limit");' >/var/www/html/index.php
script:
  - id -nG anna | grep -w makers && test "$(id -u anna)" = 1500 && grep anna@home ~anna/.ssh/authorized_keys
  - su anna -c 'sudo -n true' && ! su bob -c 'sudo -n true'
  - test "$(date +%Z)" != UTC && test "$LANG" = de_DE.UTF-8
  - grep -qx dbname=shop /etc/postgresql-common/pg_service.conf && test "$PGSERVICE" = default
test:
  ready: {port: 8080}
  commands:
    - |
      php -r 'for ($n = 0; $n < 40 && !($t = @file_get_contents("http://app:8080/")); $n++) usleep(250000);
              echo $t; exit($t === "php 64M" ? 0 : 1);'
    - for n in 1 2 3 4 5 6 7 8 9; do ssh-keyscan -p 2222 app 2>/dev/null | grep ed25519 && exit 0; sleep 1; done; exit 1
artifact: modules/all
"""
