"""Bases from the distribution's archive, and images from a registry of our own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwright.errors import BoxwrightError, FetchError, MachineError
from boxwright.sources import process
from boxwright.sources.bootstrap import bootstrap
from boxwright.sources.packages import BootstrapResult
from boxwright.sources.registry import inspect_platforms, pull, resolve_digest

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="bases are made as root or in a user namespace"),
]

NAME = "debian:bookworm"
SOURCE = Path(__file__).parents[2] / "src"
PLATFORM = "linux/" + {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
NAMESPACE = ("unshare", "--user", "--map-auto", "--map-root-user", "--mount", sys.executable)


def described(root: Path) -> dict[str, str]:
    """Everything that a manifest would hold of a tree."""
    found = {}
    for parent, directories, files in os.walk(root):
        for name in (*directories, *files):
            path = os.path.join(parent, name)
            status = os.lstat(path)
            content = ""
            if stat.S_ISREG(status.st_mode):
                content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            xattrs = [
                (key, os.getxattr(path, key, follow_symlinks=False))
                for key in os.listxattr(path, follow_symlinks=False)
            ]
            owner = f"{status.st_uid}:{status.st_gid}"
            found[os.path.relpath(path, root)] = f"{status.st_mode:o} {owner} {status.st_mtime_ns} {content} {xattrs}"
    return found


def ignored(data: bytes) -> None:
    """What mmdebstrap says."""


def make(name: str, root: Path) -> BootstrapResult:
    root.mkdir(mode=0o755)
    root.chmod(0o755)
    return bootstrap(name, str(root), output=ignored)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, BootstrapResult]]:
    root = tmp_path_factory.mktemp("base") / "root"
    yield root, make(NAME, root)
    shutil.rmtree(root)


def test_tree(base: tuple[Path, BootstrapResult]) -> None:
    root, result = base
    found = described(root)
    assert max(os.lstat(root / name).st_mtime for name in found) == result.epoch
    assert result.epoch <= result.archive_date
    for empty in ("dev", "tmp", "proc", "sys", "var/lib/apt/lists", "var/cache/apt/archives"):
        assert os.listdir(root / empty) == []
    for gone in ("etc/resolv.conf", "etc/hostname", "var/cache/ldconfig/aux-cache", "var/log/dpkg.log"):
        assert gone not in found
    assert (root / "etc/machine-id").read_bytes() == b""
    assert "signed-by" in (root / "etc/apt/sources.list").read_text()
    assert not [name for name in found if "mmdebstrap" in name]


def test_packages_by_digest(base: tuple[Path, BootstrapResult]) -> None:
    root, result = base
    query = ["dpkg-query", f"--admindir={root}/var/lib/dpkg", "-W", "-f", "${Package} ${Version} ${Architecture}\n"]
    said = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
    assert sorted(said) == sorted(f"{p.name} {p.version} {p.architecture}" for p in result.packages)
    assert all(len(p.sha256) == 64 for p in result.packages)


@pytest.mark.long
def test_the_same_in_a_user_namespace(base: tuple[Path, BootstrapResult], tmp_path: Path) -> None:
    """A second run, with owners shifted and no devices to be made, gives the same tree."""
    program = (
        "import json, sys; from pathlib import Path; from tests.integration import test_bases as t;"
        "root = Path(sys.argv[1]); result = t.make(t.NAME, root);"
        "print(json.dumps([t.described(root), [list(map(str, (p.name, p.version))) for p in result.packages]]))"
    )
    env = {**os.environ, "PYTHONPATH": f"{SOURCE}:{SOURCE.parent}", "PYTHONDONTWRITEBYTECODE": "1"}
    tmp_path.chmod(0o755)
    root = tmp_path / "root"
    try:
        run = subprocess.run([*NAMESPACE, "-c", program, root], capture_output=True, env=env, check=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    tree, packages = json.loads(run.stdout)
    if packages != [[p.name, p.version] for p in base[1].packages]:
        pytest.skip("the archive changed between the two runs")
    assert tree == described(base[0])


@pytest.mark.long
@pytest.mark.engine("lxd")
def test_a_system_boots_in_lxd_and_gets_an_address(tmp_path: Path) -> None:
    root, name = tmp_path / "rootfs", f"boxwright-test-{os.getpid()}"
    make("debian:trixie/system", root)
    (tmp_path / "metadata.yaml").write_text(f"architecture: {os.uname().machine}\ncreation_date: 1\n")
    image = tmp_path / "image.tar"
    subprocess.run(["tar", "-C", tmp_path, "--numeric-owner", "-cf", image, "metadata.yaml", "rootfs"], check=True)
    shutil.rmtree(root)
    subprocess.run(["lxc", "image", "import", image, "--alias", name], check=True, capture_output=True)
    try:
        subprocess.run(["lxc", "launch", name, name], check=True, capture_output=True, stdin=subprocess.DEVNULL)
        limit = time.monotonic() + 30
        address = ""
        while not address and time.monotonic() < limit:
            time.sleep(0.5)
            listing = ["lxc", "list", "-c", "4", "-f", "csv", f"^{name}$"]
            address = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.strip()
        assert "(eth0)" in address
    finally:
        subprocess.run(["lxc", "delete", "-f", name], check=False, capture_output=True)
        subprocess.run(["lxc", "image", "delete", name], check=False, capture_output=True)


# What goes wrong ----------------------------------------------------------------------------------------------------


def refused(code: str, name: str, root: Path, mirror: str | None = None) -> BoxwrightError:
    with pytest.raises(BoxwrightError) as caught:
        bootstrap(name, str(root), mirror=mirror, output=ignored)
    assert caught.value.code == code
    assert caught.value.hint
    return caught.value


def test_unreachable_mirror(tmp_path: Path) -> None:
    error = refused("base.fetch", NAME, tmp_path, "http://127.0.0.1:9/debian")
    assert isinstance(error, FetchError)
    assert "127.0.0.1" in error.message


def test_unknown_suite_and_distribution(tmp_path: Path) -> None:
    refused("base.fetch", "debian:nosuchsuite", tmp_path)
    refused("base.unknown", "slackware:15", tmp_path)


def test_unsigned_mirror(tmp_path: Path) -> None:
    """Not a byte is taken from an archive that nobody signed."""
    release = tmp_path / "mirror/dists/bookworm"
    release.mkdir(parents=True)
    (release / "Release").write_text("Origin: Debian\nSuite: bookworm\nCodename: bookworm\nComponents: main\n")
    root = tmp_path / "root"
    root.mkdir()
    refused("base.fetch", NAME, root, f"file://{tmp_path}/mirror")


@pytest.fixture(scope="module")
def signed_mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A mirror of several suites without a package, and the keyring of who signed them."""
    if not shutil.which("gpg"):
        pytest.skip("gpg is missing")
    home = tmp_path_factory.mktemp("gnupg")
    home.chmod(0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback"]
    try:
        subprocess.run([*gpg, "--quick-gen-key", "tester@example.org", "rsa2048", "sign"], check=True)
        keyring, mirror = home / "tester.gpg", tmp_path_factory.mktemp("mirror")
        keyring.write_bytes(subprocess.run([*gpg, "--export"], check=True, capture_output=True).stdout)
        for suite in ("bookworm", "noble"):
            place = mirror / "dists" / suite
            place.mkdir(parents=True)
            date = time.strftime("%a, %d %b %Y %H:%M:%S UTC", time.gmtime(time.time() - 60))
            lines = [f"Suite: {suite}", f"Codename: {suite}", "Components: main universe", f"Date: {date}", "SHA256:"]
            for component in ("main", "universe"):
                packages = f"{component}/binary-{PLATFORM.split('/')[1]}/Packages"
                (place / packages).parent.mkdir(parents=True)
                (place / packages).touch()
                lines.append(f" {hashlib.sha256(b'').hexdigest()} 0 {packages}")
            (place / "Release").write_text("\n".join(lines) + "\n")
            sign = [*gpg, "--clearsign", "--output", str(place / "InRelease"), str(place / "Release")]
            subprocess.run(sign, check=True)
        for directory in (home, mirror):
            directory.chmod(0o755)
        keyring.chmod(0o644)
        yield mirror, keyring
    finally:
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)


@pytest.mark.parametrize("name", ["debian:12", "ubuntu:24.04"])
def test_signed_by_another(signed_mirror: tuple[Path, Path], tmp_path: Path, name: str) -> None:
    """A good signature of a key that is not the distribution's is refused; with that keyring it is taken."""
    mirror, keyring = signed_mirror
    debian = "/usr/share/keyrings/debian-archive-keyring.gpg"
    for root in ("wrong", "right"):
        (tmp_path / root).mkdir()
    wrong = refused("base.fetch", f"{name}?keyring={debian}", tmp_path / "wrong", f"file://{mirror}")
    assert "NO_PUBKEY" in wrong.message
    right = refused("base.fetch", f"{name}?keyring={keyring}", tmp_path / "right", f"file://{mirror}")
    assert "NO_PUBKEY" not in right.message
    assert "did not find any indices" in right.message  # it went on, and there are no packages


@pytest.mark.long
def test_own_keyring_in_the_tree(tmp_path: Path) -> None:
    """A base that is checked with a keyring of one's own goes on with it: apt in the tree finds it."""
    keyring = tmp_path / "mine.gpg"
    shutil.copy("/usr/share/keyrings/debian-archive-keyring.gpg", keyring)
    make(f"debian:12?keyring={keyring}&packages=less", tmp_path / "root")
    sources = (tmp_path / "root/etc/apt/sources.list").read_text()
    assert "signed-by=/usr/share/keyrings/mine.gpg]" in sources
    assert str(tmp_path) not in sources
    assert (tmp_path / "root/usr/share/keyrings/mine.gpg").read_bytes() == keyring.read_bytes()
    assert (tmp_path / "root/usr/bin/less").exists()


def test_missing_keyring(tmp_path: Path) -> None:
    error = refused("machine.no-keyring", "ubuntu:noble?keyring=/nowhere/keys.gpg", tmp_path)
    assert isinstance(error, MachineError)
    assert "/nowhere/keys.gpg" in error.message
    assert "apt install ubuntu-archive-keyring" in error.hint


def test_missing_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but mmdebstrap is found."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("unshare", "apt-config", "sh"):
        (programs / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setattr(process, "PROGRAMS", str(programs))
    assert "mmdebstrap" in refused("machine.no-mmdebstrap", NAME, tmp_path).hint


def test_cancelled_leaves_nothing_running(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(0o755)
    busy = threading.Event()

    def output(data: bytes) -> None:
        if b"extracting" in data or b"installing" in data:
            busy.set()

    with pytest.raises(BoxwrightError, match="cancelled"):
        bootstrap(NAME, str(root), output=output, cancelled=busy.is_set)
    assert busy.is_set()
    assert str(root) not in Path("/proc/self/mountinfo").read_text()
    assert not subprocess.run(["pgrep", "-f", str(root)], capture_output=True, check=False).stdout
    shutil.rmtree(root)


# Registries ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry on loopback, plain HTTP; gives HOST:PORT."""
    if not shutil.which("docker-registry") or not shutil.which("skopeo"):
        pytest.skip("docker-registry or skopeo is missing; `make engines` installs them")
    directory = tmp_path_factory.mktemp("registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    storage = f"storage: {{filesystem: {{rootdirectory: {directory}/store}}}}"
    (directory / "registry.yml").write_text(f"version: 0.1\n{storage}\nhttp: {{addr: '{host}'}}\n")
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(["docker-registry", "serve", directory / "registry.yml"], stdout=log, stderr=log)
    try:
        name, _, port = host.partition(":")
        for _ in range(100):
            try:
                socket.create_connection((name, int(port)), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield host
    finally:
        server.terminate()
        server.wait()


def pushed(registry: str, tmp_path: Path, name: str, text: str) -> str:
    """An image of one file, pushed from a docker-archive as others write them."""
    (tmp_path / "file").write_text(text)
    with tarfile.open(tmp_path / "layer.tar", "w") as layer:
        layer.add(tmp_path / "file", "dir/file")
    diff_id = "sha256:" + hashlib.sha256((tmp_path / "layer.tar").read_bytes()).hexdigest()
    config = {"os": "linux", "architecture": PLATFORM.split("/")[1], "config": {"Env": ["A=b"], "Cmd": ["x"]}}
    (tmp_path / "config.json").write_text(json.dumps({**config, "rootfs": {"type": "layers", "diff_ids": [diff_id]}}))
    manifest = [{"Config": "config.json", "RepoTags": None, "Layers": ["layer.tar"]}]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with tarfile.open(tmp_path / "image.tar", "w") as archive:
        for member in ("manifest.json", "config.json", "layer.tar"):
            archive.add(tmp_path / member, member)
    target = f"{registry}/{name}"
    copy = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"docker-archive:{tmp_path}/image.tar"]
    subprocess.run([*copy, f"docker://{target}"], check=True)
    return target


def test_pull_by_tag_and_by_digest(registry: str, tmp_path: Path) -> None:
    name = pushed(registry, tmp_path, "some/image:1", "first")
    first = resolve_digest(name)
    assert inspect_platforms(name) == ()
    pushed(registry, tmp_path, "some/image:1", "second")
    assert resolve_digest(name) != first
    for reference, text in ((name, "second"), (f"{registry}/some/image@{first}", "first")):
        target = tmp_path / text
        target.mkdir()
        image = pull(reference, str(target), PLATFORM, scratch_directory=str(tmp_path))
        assert (target / "dir/file").read_text() == text
        assert (image.config.env, image.config.cmd) == ((("A", "b"),), ("x",))
    assert resolve_digest(f"{registry}/some/image@{first}") == first
    assert not list(tmp_path.glob("boxwright-pull-*"))


def test_registries_errors(registry: str, tmp_path: Path) -> None:
    cases = {f"{registry}/no/such:1": "registry.not-found", "127.0.0.1:9/a": "registry.unreachable"}
    for name, code in cases.items():
        with pytest.raises(FetchError) as caught:
            resolve_digest(name)
        assert caught.value.code == code
        with pytest.raises(FetchError) as caught:
            pull(name, str(tmp_path), PLATFORM, scratch_directory=str(tmp_path))
        assert caught.value.code == code
        assert caught.value.hint
    assert not list(tmp_path.iterdir())
