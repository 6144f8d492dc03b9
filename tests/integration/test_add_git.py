"""ADD of git repositories, from real ones, served over smart HTTP and by git's own daemon."""

from __future__ import annotations

import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.integration.web import Web, commit, git, serving

pytestmark = pytest.mark.integration

Context = Callable[..., Path]
COMMITTED = 981173106  # what web.git says


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    (tmp_path / "repositories").mkdir()
    with serving(tmp_path / "repositories") as server:
        yield server


@pytest.fixture
def project(web: Web) -> Path:
    """A repository with a tag on its first commit, a branch, and `main`."""
    place = web.repositories / "project.git"
    commit(place, {"README": "one", "sub/deep/file": "deep", "run": "#!/bin/sh\n", "link": "->README"})
    git(place, "tag", "--annotate", "v1", "--message", "v1")
    git(place, "switch", "--quiet", "--create", "branch/x")
    commit(place, {"README": "branch"})
    git(place, "switch", "--quiet", "main")
    commit(place, {"README": "two"})
    return place


def added(program: Program, context: Context, out: Path, *lines: str, status: int = 0) -> str:
    """Build with these lines; what was said on standard error."""
    place = context("\n".join(["FROM scratch", *lines, ""]), name=f"context-{time.monotonic_ns()}")
    result = program("build", place, "-q", "-o", f"rootfs:{out}", status=status)
    assert "Traceback" not in result.err
    return result.err


def test_what_a_ref_means(boxwright: Program, context: Context, web: Web, project: Path, tmp_path: Path) -> None:
    first = git(project, "rev-parse", "v1^{commit}")
    url = f"{web.url}/git/project.git"
    refs = {"": "two", "#main": "two", "#branch/x": "branch", "#v1": "one", "#refs/tags/v1": "one", f"#{first}": "one"}
    refs |= {f"#{first[:9]}": "one", "?ref=v1": "one"}
    lines = [f"ADD {url}{ref} /r{number}" for number, ref in enumerate(refs)]
    added(boxwright, context, tmp_path / "out", *lines)
    for number, text in enumerate(refs.values()):
        assert (tmp_path / f"out/r{number}/README").read_text() == text


def test_what_is_added(boxwright: Program, context: Context, web: Web, project: Path, tmp_path: Path) -> None:
    url = f"{web.url}/git/project.git"
    added(
        boxwright,
        context,
        tmp_path / "out",
        f"ADD {url} /all/",
        f"ADD --chown=1:2 {url}#main:sub /part",
        f"ADD --keep-git-dir=true --exclude=README {url.replace('://', '://me:hush@')} /kept/",
    )
    out = tmp_path / "out"
    assert sorted(path.name for path in (out / "all").iterdir()) == ["README", "link", "run", "sub"]
    assert (out / "all/link").readlink() == Path("README")
    status = [(out / name).stat() for name in ("all/README", "all/run", "part/deep/file")]
    assert [stat.S_IMODE(item.st_mode) for item in status] == [0o644, 0o755, 0o644]
    assert (status[2].st_uid, status[2].st_gid) == (1, 2)
    log = git(out / "kept", "-c", "safe.directory=*", "log", "-1", "--format=%H")
    assert log == git(project, "rev-parse", "HEAD")
    assert not (out / "kept/README").exists()
    assert not (out / "kept/.git/hooks").exists()
    assert "hush" not in (out / "kept/.git/config").read_text()


@pytest.mark.usefixtures("project")
def test_times_are_the_commits(boxwright: Program, context: Context, web: Web, tmp_path: Path) -> None:
    place = context(f"FROM scratch\nADD {web.url}/git/project.git /\n")
    late, early = tmp_path / "late", tmp_path / "early"
    boxwright("build", place, "-q", "-o", f"rootfs:{late}", "--build-arg", "SOURCE_DATE_EPOCH=1000000000")
    assert (late / "README").stat().st_mtime == COMMITTED
    boxwright("build", place, "-q", "--no-cache", "-o", f"rootfs:{early}", "--build-arg", "SOURCE_DATE_EPOCH=9")
    assert (early / "sub/deep").stat().st_mtime == 9


def test_a_commit_is_fetched_once(fresh_boxwright: Program, context: Context, web: Web, project: Path) -> None:
    place = context(f"FROM scratch\nADD {web.url}/git/project.git#main /\n")
    first = fresh_boxwright("build", place, "-q").out
    web.requests.clear()
    assert fresh_boxwright("build", place, "-q").out == first
    assert not [request for request in web.requests if request.path.endswith("/objects/")]
    pinned = context(f"FROM scratch\nADD {web.url}/git/project.git#{git(project, 'rev-parse', 'HEAD')} /\n", name="p")
    web.requests.clear()
    assert fresh_boxwright("build", pinned, "-q").out == first
    assert not web.requests
    commit(project, {"README": "three"})
    assert fresh_boxwright("build", place, "-q").out != first


def test_a_pinned_commit(boxwright: Program, context: Context, web: Web, project: Path, tmp_path: Path) -> None:
    head = git(project, "rev-parse", "HEAD")
    tag = git(project, "rev-parse", "v1")
    url = f"{web.url}/git/project.git"
    added(boxwright, context, tmp_path / "a", f"ADD --checksum={head} {url}#main /")
    added(boxwright, context, tmp_path / "b", f"ADD --checksum={tag[:12]} {url}#v1 /")
    assert "[fetch.checksum]" in added(boxwright, context, tmp_path / "c", f"ADD --checksum={tag} {url} /", status=5)


@pytest.mark.usefixtures("project")
def test_submodules_come_with_it(boxwright: Program, context: Context, web: Web, tmp_path: Path) -> None:
    outer = web.repositories / "outer.git"
    commit(outer, {"a": "A"})
    git(outer, "submodule", "--quiet", "add", "../project.git", "inner")
    git(outer, "config", "--file", ".gitmodules", "submodule.inner.url", "../project.git")
    commit(outer, {})
    added(boxwright, context, tmp_path / "out", f"ADD {web.url}/git/outer.git /")
    assert (tmp_path / "out/inner/README").read_text() == "two"
    assert not (tmp_path / "out/inner/.git").exists()


@pytest.mark.usefixtures("project")
def test_failures_are_said_clearly(boxwright: Program, context: Context, web: Web, tmp_path: Path) -> None:
    url = f"{web.url}/git/project.git"
    for number, (what, code) in enumerate(
        {
            f"{url}#nothing": "git.ref",
            f"{url}#0123456": "git.ref",
            f"{url}#{'0' * 40}": "git.",
            f"{web.url}/git/missing.git": "git.fetch",
            "git://127.0.0.1:9/x": "git.fetch",
            f"{url}#main:nowhere": "copy.not-found",
        }.items()
    ):
        status = 1 if code == "copy.not-found" else 5
        assert f"[{code}" in added(boxwright, context, tmp_path / f"o{number}", f"ADD {what} /", status=status)


def test_options_can_not_be_slipped_in(boxwright: Program, context: Context, web: Web, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    commit(web.repositories / "x.git", {"a": "A"})
    for number, what in enumerate(
        (
            f"{web.url}/git/x.git#--upload-pack=touch${{IFS}}{mark}",
            f"ssh://-oProxyCommand=touch%20{mark}/x.git",
            f"git@-oProxyCommand=touch{mark}:x.git",
            f"git://-x/{mark}",
        )
    ):
        place = context(f'FROM scratch\nADD ["{what.replace("$", chr(92) * 2 + "$")}", "/"]\n', name=f"attack-{number}")
        result = boxwright("build", place, status=None)
        assert result.status in (1, 2, 5), result
        assert "Traceback" not in result.err
    assert not mark.exists()


def test_submodules_of_strangers(boxwright: Program, context: Context, web: Web, tmp_path: Path) -> None:
    """A submodule's address runs no command and reads no file of this machine."""
    mark = tmp_path / "mark"
    secret = tmp_path / "secret"
    commit(secret, {"secret": "secret"})
    inner = commit(web.repositories / "inner.git", {"a": "A"})
    addresses = [f"ext::sh -c touch% {mark}", f"file://{secret}", str(secret), f"--upload-pack=touch {mark}"]
    for number, address in enumerate(addresses):
        outer = web.repositories / f"outer{number}.git"
        commit(outer, {"a": "A", ".gitmodules": f'[submodule "inner"]\n\tpath = inner\n\turl = {address}\n'})
        git(outer, "update-index", "--add", "--cacheinfo", f"160000,{inner},inner")
        git(outer, "commit", "--quiet", "--message", "two")
        place = context(f"FROM scratch\nADD {web.url}/git/outer{number}.git /\n", name=f"attack-{number}")
        out = tmp_path / f"out{number}"
        result = boxwright("build", place, "-o", f"rootfs:{out}", status=None)
        assert result.status == 5, result
        assert "[git.fetch]" in result.err
    assert not mark.exists()


def test_hooks_and_filters_of_a_repository_do_not_run(
    boxwright: Program, context: Context, web: Web, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    hook = f"#!/bin/sh\ntouch {mark}\n"
    place = web.repositories / "x.git"
    commit(place, {".gitattributes": "* filter=evil text eol=crlf\n", "hooks/post-checkout": hook, "a": "A\n"})
    git(place, "config", "filter.evil.smudge", f"touch {mark}")
    shutil.copy(place / "hooks/post-checkout", place / ".git/hooks/post-checkout")
    added(boxwright, context, tmp_path / "out", f"ADD {web.url}/git/x.git /")
    assert not mark.exists()


def test_links_lead_nowhere_else(boxwright: Program, context: Context, web: Web, tmp_path: Path) -> None:
    commit(web.repositories / "x.git", {"etc": "->/etc", "up": "->../../../../etc", "in/hostname": "inside"})
    url = f"{web.url}/git/x.git"
    for name in ("etc", "up", "etc/hostname", "../../etc"):
        place = context(f"FROM scratch\nADD {url}#main:{name} /\n", name=name.replace("/", "-"))
        out = tmp_path / f"out-{name.replace('/', '-')}"
        result = boxwright("build", place, "-o", f"rootfs:{out}", status=None)
        assert "[copy.not-found]" in result.err or not (out / "hostname").exists(), result


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    """Until something listens there."""
    for _ in range(200):
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.05)
    pytest.fail("no server")


def test_gits_own_protocol(boxwright: Program, context: Context, project: Path, tmp_path: Path) -> None:
    port = free_port()
    words = ["git", "daemon", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", "--export-all"]
    with subprocess.Popen([*words, f"--base-path={project.parent}", project.parent], stderr=subprocess.PIPE) as daemon:
        try:
            wait_for(port)
            added(boxwright, context, tmp_path / "out", f"ADD git://127.0.0.1:{port}/project.git#v1 /")
        finally:
            subprocess.run(["pkill", "-P", str(daemon.pid)], check=False)
            daemon.terminate()
    assert (tmp_path / "out/README").read_text() == "one"


@pytest.mark.engine("ssh")
def test_over_ssh_with_the_users_own_key(boxwright: Program, context: Context, project: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    keys = home / ".ssh"
    keys.mkdir(parents=True, mode=0o700)
    for name in ("host", "id_ed25519"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / name], check=True)
    port = free_port()
    host_key = " ".join((keys / "host.pub").read_text().split()[:2])
    (keys / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    options = (f"HostKey={keys}/host", f"AuthorizedKeysFile={keys}/id_ed25519.pub", "StrictModes=no", "PidFile=none")
    words = ["/usr/sbin/sshd", "-D", "-f", "/dev/null", "-o", f"ListenAddress=127.0.0.1:{port}"]
    with subprocess.Popen([*words, *(word for option in options for word in ("-o", option))]) as daemon:
        try:
            url = f"ssh://root@127.0.0.1:{port}{project}"
            place = context(f"FROM scratch\nADD {url}#v1 /\n")
            at_home = boxwright.with_environment(HOME=str(home))
            wait_for(port)
            at_home("build", place, "-q", "-o", f"rootfs:{tmp_path / 'out'}")
            assert (tmp_path / "out/README").read_text() == "one"
            (keys / "known_hosts").write_text("")
            other = context(f"FROM scratch\nADD {url}#main /\n", name="other")
            assert "[git.fetch]" in at_home("build", other, status=5).err
        finally:
            daemon.terminate()
