"""Alpine bases from a small mirror, made without apk."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boxwright.errors import BoxwrightError
from boxwright.sources.alpine.keys import ApkPlaces
from boxwright.sources.bootstrap import bootstrap
from tests.alpinemirror import BUILT, KEY, Mirror, directory, file, fill, link, make_key, served
from tests.conftest import Program, remove_tree
from tests.integration.test_bases import described, ignored

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="bases are made as root or in a user namespace"),
]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("keys")
    make_key(directory)
    directory.chmod(0o755)
    return directory


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Mirror:
    mirror = Mirror(tmp_path_factory.mktemp("mirror"), keys / "private.pem")
    fill(mirror)
    mirror.publish()
    return mirror


@pytest.fixture(scope="module")
def address(filled: Mirror) -> Iterator[str]:
    with served(filled.root) as url:
        yield url


@pytest.fixture
def mirror(tmp_path: Path, keys: Path) -> Mirror:
    """A mirror of this test's own, full but for its index."""
    made = Mirror(tmp_path / "mirror", keys / "private.pem")
    fill(made)
    return made


def make(mirror: Mirror, root: Path, keys: Path, name: str = "alpine:3.20") -> str:
    """Make a base; gives what was said."""
    said: list[bytes] = []
    root.mkdir(mode=0o755)
    bootstrap(name, str(root), mirror=mirror.url, output=said.append, apk=ApkPlaces((str(keys),)))
    return b"".join(said).decode()


def refused(code: str, mirror: Mirror, root: Path, keys: Path, name: str = "alpine:3.20") -> BoxwrightError:
    with pytest.raises(BoxwrightError) as caught:
        make(mirror, root, keys, name)
    assert caught.value.code == code, caught.value.message
    assert caught.value.hint
    return caught.value


def trust(program: Program, keys: Path) -> None:
    (program.home / "keys/apk").mkdir(parents=True)
    shutil.copy(keys / KEY, program.home / "keys/apk" / KEY)


# What works ---------------------------------------------------------------------------------------------------------


def test_a_recipe_from_alpine(
    fresh_boxwright: Program, context: Callable[..., Path], keys: Path, address: str, tmp_path: Path
) -> None:
    trust(fresh_boxwright, keys)
    place = context(
        "FROM alpine:3.20\nRUN id -un > /who && ls -l /sbin/apk > /listing && head -1 /lib/apk/db/installed\n"
    )
    arguments = ("build", place, "-q", "--mirror", address, "-t", "alp")
    first = fresh_boxwright(*arguments, "-o", f"rootfs:{tmp_path / 'out'}").out
    out = tmp_path / "out"
    assert (out / "who").read_text() == "root\n"
    assert (out / "bin/ls").is_symlink()
    assert (out / "etc/apk/world").read_text().split() == [
        "alpine-baselayout", "alpine-keys", "alpine-release", "apk-tools", "busybox", "libc-utils",
    ]  # fmt: skip
    assert (out / "etc/apk/repositories").read_text() == f"{address}/v3.20/main\n{address}/v3.20/community\n"
    assert (out / f"etc/apk/keys/{KEY}").read_bytes() == (keys / KEY).read_bytes()
    assert fresh_boxwright(*arguments).out == first
    assert "alpine:3.20" in fresh_boxwright("build", place, "--dry-run", "--mirror", address).out
    check_what_is_inside(fresh_boxwright)


def check_what_is_inside(program: Program) -> None:
    """The packages that apk's database lists, and whose files are whose."""
    listed = json.loads(program("list", "alp", "--json").out)
    packages = {package["package"]: package for package in listed["packages"]}
    assert {"alpine-baselayout", "alpine-keys", "busybox"} <= packages.keys()
    assert packages["busybox"]["kind"] == "apk"
    assert packages["busybox"]["version"] == "1.36.1-r29"
    assert packages["busybox"]["files"] >= 1
    assert sorted(path for paths in listed["steps"].values() for path in paths) == ["listing", "who"]
    assert program("owns", "alp", "/bin/busybox").out == "/bin/busybox: alpine/busybox=1.36.1-r29\n"
    assert "it came with FROM alpine:3.20" in program("why", "alp", "busybox").out


def test_configured_base(
    fresh_boxwright: Program, context: Callable[..., Path], keys: Path, mirror: Mirror, tmp_path: Path
) -> None:
    """Further packages, from a mirror with main and community, checked with keys of one's own."""
    mirror.publish()
    more = Mirror(mirror.root, mirror.private, repository="community")
    more.add("tool", files={file("tool"): b"x"}, D="musl")
    more.publish()
    spec = f"{{type: alpine, suite: 3.20, mirror: '{mirror.url}', packages: [tool], keyring: '{keys}'}}"
    place = context("FROM mine\n", {".boxwright-config.yaml": f"bases:\n  mine: {spec}\n"})
    fresh_boxwright("build", place, "-q", "-o", f"rootfs:{tmp_path / 'out'}")
    assert (tmp_path / "out/tool").read_text() == "x"
    assert "tool" in (tmp_path / "out/etc/apk/world").read_text().split()


def test_pull_asks_the_mirror_again(
    fresh_boxwright: Program, context: Callable[..., Path], keys: Path, mirror: Mirror, tmp_path: Path
) -> None:
    trust(fresh_boxwright, keys)
    mirror.publish()
    recipe = "FROM alpine:3.20\nRUN echo ran && date +%s.%N > /run-once; cp /etc/alpine-release /copy\n"
    place = context(recipe)
    arguments = ("build", place, "-q", "--mirror", mirror.url)
    first = fresh_boxwright(*arguments).out
    plan = fresh_boxwright("build", place, "--pull", "--dry-run", "--mirror", mirror.url).out.splitlines()
    assert [line.split()[0] for line in plan] == ["RUN", "RUN"]
    assert fresh_boxwright(*arguments, "--pull").out == first  # the same content: nothing above it is run again
    mirror.add("alpine-release", "3.20.4-r0", {file("etc/alpine-release"): b"3.20.4\n"}, D="alpine-keys")
    del mirror.records["alpine-release-3.20.3-r0"]
    mirror.publish()
    assert fresh_boxwright(*arguments).out == first
    assert fresh_boxwright(*arguments, "--pull", "-o", f"rootfs:{tmp_path / 'out'}").out != first
    assert (tmp_path / "out/copy").read_text() == "3.20.4\n"
    assert "CACHED" in fresh_boxwright("build", place, "--dry-run", "--mirror", mirror.url).out


@pytest.mark.ordinary_user
def test_the_same_for_an_ordinary_user(
    fresh_boxwright: Program, ordinary_boxwright: Program, keys: Path, address: str
) -> None:
    """In a user namespace, scripts included."""
    home = ordinary_boxwright.home.parent / "alpine"
    place = home / "context"
    place.mkdir(parents=True)
    (place / "Recipe").write_text("FROM alpine:3.20\n")
    other = ordinary_boxwright.at(home / "store")
    try:
        digests = []
        for program in (fresh_boxwright, other):
            trust(program, keys)
            if program.user:
                for path in (home, program.home, program.home / "keys", program.home / "keys/apk"):
                    shutil.chown(path, program.user, program.user)
            digests.append(program("build", place, "-q", "--mirror", address).out)
        assert digests[0] == digests[1]
    finally:
        remove_tree(home)


def test_tree(filled: Mirror, tmp_path: Path, keys: Path) -> None:
    """Two at different moments are the same, and nothing is later than the newest package."""
    said = make(filled, tmp_path / "one", keys)
    make(filled, tmp_path / "two", keys)
    found = described(tmp_path / "one")
    assert found == described(tmp_path / "two")
    assert max(os.lstat(tmp_path / "one" / name).st_mtime for name in found) == BUILT
    order = [line.split()[2] for line in said.splitlines() if "Installing" in line]
    assert order.index("musl") < order.index("busybox")
    status = (tmp_path / "one/etc/shadow").stat()
    assert (status.st_gid, stat.S_IMODE(status.st_mode)) == (0, 0o640)  # the names come with the same package
    assert not list((tmp_path / "one/dev").iterdir())


def test_package_database(filled: Mirror, tmp_path: Path, keys: Path) -> None:
    """Read as apk reads it: records of lines, files below the directory above them."""
    make(filled, tmp_path / "root", keys)
    records = (tmp_path / "root/lib/apk/db/installed").read_text().strip().split("\n\n")
    by_name = {next(line[2:] for line in text.splitlines() if line.startswith("P:")): text for text in records}
    assert sorted(by_name) == sorted(name.rpartition("-")[0].rpartition("-")[0] for name in filled.records)
    busybox = by_name["busybox"].splitlines()
    assert busybox[0].startswith("C:Q1")
    assert {"V:1.36.1-r29", f"D:so:libc.musl-{os.uname().machine}.so.1 alpine-baselayout"} <= set(busybox)
    where = busybox.index("F:bin")
    assert busybox[where + 1 : where + 3] == ["R:busybox", "a:0:0:755"]
    assert busybox[where + 3].startswith("Z:Q1")
    with tarfile.open(tmp_path / "root/lib/apk/db/scripts.tar") as scripts:
        (script,) = scripts.getnames()
    assert script == f"busybox-1.36.1-r29.{busybox[0][2:]}.post-install"


def test_scripts_triggers_and_owners(mirror: Mirror, tmp_path: Path, keys: Path) -> None:
    """A package's user is made before its files come, and triggers see the directories that they ask for."""
    add = b"#!/bin/sh\necho 'daemon:x:77:78::/:/bin/sh' >> /etc/passwd\necho 'daemon:x:78:' >> /etc/group\n"
    owned = {directory("srv"): b"", file("srv/data", 0o600, "daemon", "daemon", uid=999): b"x"}
    mirror.add(
        "service", files=owned, scripts={"pre-install": add, "post-install": b'#!/bin/sh\necho "$1" > /version\n'}
    )
    mirror.add(
        "watcher", scripts={"trigger": b'#!/bin/sh\necho "$@" > /seen; ls /dev > /devices\n'}, triggers="/sr* /none"
    )
    mirror.records["apk-tools-2.14.4-r1"] = mirror.records["apk-tools-2.14.4-r1"].replace("D:", "D:service watcher ")
    mirror.publish()
    make(mirror, tmp_path / "root", keys)
    status = (tmp_path / "root/srv/data").stat()
    assert (status.st_uid, status.st_gid) == (77, 78)
    assert (tmp_path / "root/version").read_text() == "1.0-r0\n"
    assert (tmp_path / "root/seen").read_text() == "/srv\n"
    assert (tmp_path / "root/devices").read_text().split() == ["full", "null", "random", "urandom", "zero"]


def test_system(mirror: Mirror, tmp_path: Path, keys: Path) -> None:
    services = {file(f"etc/init.d/{name}", 0o755): b"#!/sbin/openrc-run\n" for name in ("networking", "bootmisc")}
    mirror.add("openrc", files={**services, file("etc/rc.conf"): b"#rc_sys=\n"}, D="ifupdown-any")
    mirror.add("busybox-ifupdown", p="ifupdown-any")
    mirror.add("ifupdown-ng", p="ifupdown-any")
    mirror.add("alpine-base", D="openrc alpine-baselayout")
    mirror.add("busybox-openrc", files={file("etc/init.d/syslog", 0o755): b"#!/sbin/openrc-run\n"}, i="busybox openrc")
    mirror.publish()
    make(mirror, tmp_path / "root", keys, "alpine:3.20/system")
    root = tmp_path / "root"
    assert sorted(os.listdir(root / "etc/runlevels/boot")) == ["bootmisc", "networking", "syslog"]
    assert os.readlink(root / "etc/runlevels/boot/networking") == "/etc/init.d/networking"
    assert "iface eth0 inet dhcp" in (root / "etc/network/interfaces").read_text()
    assert (root / "etc/rc.conf").read_text().endswith('rc_sys="lxc"\n')


def test_other_spellings(mirror: Mirror, tmp_path: Path, keys: Path) -> None:
    """A point release means its branch; edge is a branch; newer signatures are of SHA-256."""
    mirror.algorithm = "RSA256"
    mirror.publish()
    make(mirror, tmp_path / "one", keys, "alpine:3.20.3")
    mirror.root.joinpath("v3.20").rename(mirror.root / "edge")
    make(mirror, tmp_path / "two", keys, "alpine:edge")
    assert "/edge/main" in (tmp_path / "two/etc/apk/repositories").read_text()


# What goes wrong ----------------------------------------------------------------------------------------------------


def test_index_signed_by_another(mirror: Mirror, tmp_path: Path, keys: Path) -> None:
    """Under the name of a key that is known, made with another."""
    mirror.private = make_key(tmp_path / "other")
    mirror.publish()
    refused("base.bad-signature", mirror, tmp_path / "root", keys)
    assert not list((tmp_path / "root").iterdir())


def test_index_changed_after_it_was_signed(mirror: Mirror, tmp_path: Path, keys: Path) -> None:
    path = mirror.publish()
    path.write_bytes(path.read_bytes() + gzip.compress(b"\0" * 512))
    refused("base.bad-signature", mirror, tmp_path / "root", keys)


def test_unknown_key(mirror: Mirror, tmp_path: Path) -> None:
    mirror.publish()
    error = refused("base.unknown-key", mirror, tmp_path / "root", tmp_path)
    assert KEY in error.message
    assert str(tmp_path) in error.hint


@pytest.mark.parametrize("name", ["../../../etc/passwd", "a b", "nothing"])
def test_keys_are_found_by_plain_names_alone(mirror: Mirror, tmp_path: Path, keys: Path, name: str) -> None:
    mirror.key = name
    mirror.publish()
    with pytest.raises(BoxwrightError) as caught:
        make(mirror, tmp_path / "root", keys)
    assert caught.value.code in {"base.unsigned", "base.unknown-key"}


def test_unsigned_index(mirror: Mirror, tmp_path: Path, keys: Path) -> None:
    path = mirror.publish()
    data = path.read_bytes()
    path.write_bytes(data[data.index(b"\x1f\x8b\x08", 3) :])
    refused("base.unsigned", mirror, tmp_path / "root", keys)


def changed_data(path: Path) -> None:
    data = path.read_bytes()
    start = data.rindex(b"\x1f\x8b\x08\x00\x00\x00\x00\x00")
    evil = gzip.compress(b"evil" + b"\0" * 508, mtime=0)
    path.write_bytes(data[:start] + evil[: len(data) - start].ljust(len(data) - start, b"\0"))


def changed_control(path: Path) -> None:
    """The description says so, and the files fit: only the index's checksum tells."""
    other = Mirror(path.parent / "other", path.parents[4] / "k/private.pem")
    make_key(path.parents[4] / "k")
    name, version = "alpine-keys", "2.4-r1"
    shutil.copy(other.add(name, version), path)


def renamed(path: Path) -> None:
    shutil.copy(path.parent / "libc-utils-0.7.2-r5.apk", path)


@pytest.mark.parametrize("change", [changed_data, changed_control, renamed])
def test_changed_package(mirror: Mirror, tmp_path: Path, keys: Path, change: Callable[[Path], None]) -> None:
    mirror.publish()
    change(mirror.place / "alpine-keys-2.4-r1.apk")
    refused("base.changed", mirror, tmp_path / "root", keys)
    assert not (tmp_path / "root/etc/apk/keys").exists()


def test_cut_off_package(mirror: Mirror, tmp_path: Path, keys: Path) -> None:
    mirror.publish()
    path = mirror.place / "alpine-keys-2.4-r1.apk"
    path.write_bytes(path.read_bytes()[:100])
    refused("unpack.damaged", mirror, tmp_path / "root", keys)


def test_package_format_3(mirror: Mirror, tmp_path: Path, keys: Path) -> None:
    mirror.publish()
    (mirror.place / "alpine-keys-2.4-r1.apk").write_bytes(b"ADBd" + b"\0" * 100)
    refused("base.unsupported", mirror, tmp_path / "root", keys)


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "etc/../../outside"])
def test_path_traversal(mirror: Mirror, tmp_path: Path, keys: Path, name: str) -> None:
    """A package that is signed may not write outside of the tree either."""
    mirror.add("alpine-keys", "2.4-r1", {file(name): b"x"})
    mirror.publish()
    refused("unpack.escape", mirror, tmp_path / "root", keys)
    assert not (tmp_path / "outside").exists()


def test_links_out_of_the_tree(mirror: Mirror, tmp_path: Path, keys: Path) -> None:
    """Not by its own files, and not by those that are written and removed afterwards."""
    outside = tmp_path / "outside"
    (outside / "cache/apk").mkdir(parents=True)
    (outside / "cache/apk/precious").touch()
    (outside / "db").mkdir()
    layout = {link("srv", str(outside)): b"", file("srv/file"): b"x", link("var", str(outside)): b""}
    mirror.add("alpine-keys", "2.4-r1", {**layout, link("lib/apk", str(outside)): b""}, D="alpine-baselayout")
    mirror.publish()
    make(mirror, tmp_path / "root", keys)
    left = sorted(str(path.relative_to(outside)) for path in outside.rglob("*"))
    assert left == ["cache", "cache/apk", "cache/apk/precious", "db"]


def test_failing_script(mirror: Mirror, tmp_path: Path, keys: Path) -> None:
    mirror.add("alpine-keys", "2.4-r1", scripts={"post-install": b"#!/bin/sh\necho no; exit 3\n"}, D="busybox")
    mirror.publish()
    error = refused("base.script", mirror, tmp_path / "root", keys)
    assert "no" in error.message
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_missing_dependency(mirror: Mirror, tmp_path: Path, keys: Path) -> None:
    mirror.add("alpine-keys", "2.4-r1", D="so:libgone.so.9")
    mirror.publish()
    assert "so:libgone.so.9" in refused("base.dependency", mirror, tmp_path / "root", keys).message


def test_mirror_that_is_down(fresh_boxwright: Program, context: Callable[..., Path]) -> None:
    place = context("FROM alpine:3.20\n")
    result = fresh_boxwright("build", place, "--mirror", "http://127.0.0.1:9/alpine", status=5)
    assert "[base.fetch]" in result.err
    assert "Recipe:1" in result.err
    assert "Traceback" not in result.err


def test_branch_that_is_not_there(filled: Mirror, address: str, tmp_path: Path, keys: Path) -> None:
    del filled
    (tmp_path / "root").mkdir()
    with pytest.raises(BoxwrightError) as caught:
        bootstrap("alpine:3.99", str(tmp_path / "root"), mirror=address, output=ignored, apk=ApkPlaces((str(keys),)))
    assert caught.value.code == "base.fetch"
    assert "404" in caught.value.message


def test_cancelled(filled: Mirror, tmp_path: Path, keys: Path) -> None:
    (tmp_path / "root").mkdir()
    stop = threading.Event()

    def output(data: bytes) -> None:
        if b"Installing busybox" in data:
            stop.set()

    with pytest.raises(BoxwrightError, match="cancelled"):
        bootstrap(
            "alpine:3.20",
            str(tmp_path / "root"),
            mirror=filled.url,
            output=output,
            cancelled=stop.is_set,
            apk=ApkPlaces((str(keys),), str(tmp_path)),
        )
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_interrupted_build_leaves_nothing(
    fresh_boxwright: Program, context: Callable[..., Path], keys: Path, mirror: Mirror
) -> None:
    """Ctrl-C while a package's script runs: it ends with it, and the next build is right."""
    trust(fresh_boxwright, keys)
    mirror.add("alpine-keys", "2.4-r1", scripts={"post-install": b"#!/bin/sh\necho waiting; sleep 600\n"}, D="busybox")
    mirror.publish()
    place = context("FROM alpine:3.20\n")
    arguments = ("build", str(place), "--mirror", mirror.url, "--progress", "plain")
    with fresh_boxwright.start(*arguments) as process:
        assert process.stderr is not None
        while "waiting" not in (line := process.stderr.readline()):
            assert line, "it ended before"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130
    mirror.add("alpine-keys", "2.4-r1", D="busybox")
    mirror.publish()
    assert fresh_boxwright(*arguments).out.startswith("(no name)")
