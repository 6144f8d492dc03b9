"""Modules and includes of manifests, and the modules that come with the program."""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import ROOT, Program
from tests.integration.manifests.conftest import Project, suites
from tests.integration.registries import serving
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


SHARED = """\
name: web/hello
version: "1.0"
summary: A greeting
parameters: {greeting: {summary: what it says, default: hello}}
templates: [{src: motd.j2, dest: /etc/motd}]
"""


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A module, and a manifest that others include."""
    files = {
        "module/module.yaml": SHARED,
        "module/motd.j2": "{{ greeting }} of the image\n",
        "common/base/manifest.yaml": "files: [{src: shared.txt, dest: /shared}]\n",
        "common/base/shared.txt": "shared\n",
        "common/Recipe": "FROM scratch\nCOPY base /base\n",
    }
    for name, text in files.items():
        (tmp_path / "shared" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "shared" / name).write_text(text)
    return tmp_path / "shared"


USER = """\
image: {base}
include: ["image:NAMEcommon#base"]
modules: [{name: web/hello, from: "image:NAMEmodules:1"}]
artifact: uses/shared
"""


@pytest.mark.parametrize("kind", ["repository", pytest.param("registry", marks=pytest.mark.long)])
def test_modules_and_includes_of_images(
    fresh_boxwright: Program, project: Project, shared: Path, tmp_path: Path, kind: str
) -> None:
    """One machine publishes an image with the module; another has nothing but the repository or the registry."""
    with ExitStack() as stack:
        place = project(USER.replace("NAME", "team/"))
        first = fresh_boxwright.at(tmp_path / "first").with_environment(HOME=str(tmp_path), XDG_CONFIG_HOME="")
        prefix = "team/"
        configuration = f"{{name: here, type: directory, path: {tmp_path / 'repository'}}}"
        if kind == "registry":
            (tmp_path / "registry").mkdir()
            prefix = f"{stack.enter_context(serving(tmp_path / 'registry')).host}/team/"
            (place / "manifest.yaml").write_text((place / "manifest.yaml").read_text().replace("team/", prefix))
        else:
            key = first("repo", "key").out.strip()
            configuration = configuration.rstrip("}") + f", keys: ['{key}']}}"
            (place / ".boxwright-config.yaml").write_text(f"repository: {configuration}\n")
        missing = fresh_boxwright("build", place, status=5 if kind == "registry" else None)
        assert missing.status
        first("module", "publish", shared / "module", f"image:{prefix}modules:1")
        first("build", shared / "common", "-t", f"{prefix}common")
        for name in (f"{prefix}modules:1", f"{prefix}common"):
            first("push", name, cwd=place)
        fresh_boxwright("module", "add", "web/hello", "--from", f"image:{prefix}modules:1", "-C", place)
        fresh_boxwright("build", place)
        assert fresh_boxwright("run", "--rm", "uses/shared", "cat", "/etc/motd", "/shared").out == (
            "hello of the image\nshared\n"
        )
        # What was published stays, and what the lock pins is what is used.
        (shared / "module/motd.j2").write_text("tampered\n")
        assert (
            "[module.exists]" in first("module", "publish", shared / "module", f"image:{prefix}modules:1", status=2).err
        )
        first("rm", f"{prefix}modules:1")
        first("module", "publish", shared / "module", f"image:{prefix}modules:1")
        first("push", f"{prefix}modules:1", cwd=place)
        third = fresh_boxwright.at(tmp_path / "third")
        assert "[module.changed]" in third("build", place, status=2).err


@pytest.mark.parametrize("what", ["template", "include", "data", "module", "linked manifest"])
def test_what_is_fetched_reads_nothing_of_this_machine(
    boxwright: Program, project: Project, web: Web, tmp_path: Path, what: str
) -> None:
    secret = tmp_path / "secret.yaml"
    secret.write_text("vars: {password: hidden}\nname: x\nversion: '1'\nsummary: x\n")
    manifests = {
        "template": "templates: [{src: leak, dest: /t}]\n",
        "include": f"include: ['../../../../../../../..{secret}']\n",
        "data": "kv: {yaml: leak}\nenv: {A: '{{ kv.vars.password }}'}\n",
        "module": f"modules: [{{name: x, from: '../../../../../../../..{tmp_path}'}}]\n",
    }
    repository = web.repositories / "shared.git"
    commit(repository, {"base/manifest.yaml": manifests.get(what, "a: b\n")})
    (repository / "base/leak").symlink_to(secret)
    if what == "linked manifest":
        (repository / "base/manifest.yaml").unlink()
        (repository / "base/manifest.yaml").symlink_to(secret)
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "--allow-empty", "-m", "link")
    place = project(f"image: {{base}}\ninclude: ['{web.url}/git/shared.git#main:base']\n")
    refused = boxwright("build", place, status=2)
    assert "[manifest.outside]" in refused.err
    assert "hidden" not in refused.err


def test_a_template_is_no_link_out_of_the_project(boxwright: Program, project: Project, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hidden\n")
    place = project("image: {base}\ntemplates: [{src: t, dest: /t}]\nartifact: linked/inside\n", {"real": "inside\n"})
    (place / "t").symlink_to("../secret")
    assert "[manifest.outside]" in boxwright("build", place, status=2).err
    (place / "t").unlink()
    (place / "t").symlink_to("real")
    boxwright("build", place)
    assert boxwright("run", "--rm", "linked/inside", "cat", "/t").out == "inside\n"


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
