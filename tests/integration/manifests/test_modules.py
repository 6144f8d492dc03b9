"""Modules and includes of manifests, and the modules that come with the program."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT, Program
from tests.integration.manifests.conftest import Project, suites
from tests.integration.web import Web, commit, git

pytestmark = pytest.mark.integration


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
