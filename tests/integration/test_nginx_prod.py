"""examples/nginx-prod: nginx and its libraries from source, patched, composed, and answering wherever it runs.

It is built once for all tests here: openssl alone takes minutes.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import ROOT, Program
from tests.integration.conftest import free_port

pytestmark = [pytest.mark.slow, pytest.mark.long]

EXAMPLE = ROOT / "examples/nginx-prod"
IMAGE = "sysadmin42/nginx-production:1.22.1-p1"
ACI = "nginx-production-1.22.1-p1-linux-amd64.aci"
INSTANCE = f"boxwright-nginx-{os.getpid()}"
DENIED = "Plain http requests are denied"
SITE = """\
server {
    listen 8443 ssl;
    listen [::]:8443 ssl;
    ssl_certificate sites/certificate.pem;
    ssl_certificate_key sites/key.pem;
    location / { return 200 "hello over TLS\\n"; }
}
"""
SECONDS = 30.0


class Built(NamedTuple):
    """The example as it was built: the program, the directory with the output, what was said."""

    program: Program
    out: Path
    said: list[str]


@pytest.fixture(scope="session")
def built(session_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    out = tmp_path_factory.mktemp("nginx-prod")
    program = Program(session_home)
    result = program("build", EXAMPLE, cwd=out, timeout=3000)
    return Built(program, out, result.err.splitlines())


@pytest.fixture(scope="session")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a site that has TLS, as the example expects it from outside."""
    directory = tmp_path_factory.mktemp("sites")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost")
    files = ("-keyout", directory / "key.pem", "-out", directory / "certificate.pem")
    subprocess.run(["openssl", "req", "-x509", *key, *files], check=True, capture_output=True)
    directory.chmod(0o755)  # root in LXD's containers is another user
    (directory / "key.pem").chmod(0o644)
    (directory / "site.conf").write_text(SITE)
    return directory


def said(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def fetch(url: str, *inside: str) -> str:
    """The answer, headers too, as soon as there is one; `inside` are words that enter a network namespace."""
    deadline = time.monotonic() + SECONDS
    while True:
        words = (*inside, "curl", "-ksi", "--max-time", "5", "--noproxy", "*", url)
        answer = subprocess.run(words, check=False, capture_output=True, text=True)
        if answer.returncode == 0:
            return answer.stdout
        assert time.monotonic() < deadline, f"{url}: {answer}"
        time.sleep(0.1)


def check_answers(http: str, https: str, *inside: str) -> None:
    """Plain requests are denied, on both ports and with a text of the patch; TLS is answered; no version is told."""
    for denied in (fetch(http, *inside), fetch(https.replace("https:", "http:"), *inside)):
        assert re.match(r"HTTP/1.1 403 Forbidden\r?\nServer: nginx\r?\n", denied), denied
        assert DENIED in denied
    answer = fetch(https, *inside)
    assert answer.endswith("hello over TLS\n"), answer
    assert "erver: nginx\n" in answer.replace("\r", "")


def in_namespace(pid: str) -> tuple[str, ...]:
    return ("nsenter", "--target", pid.strip(), "--net")


def test_the_transcript(built: Built) -> None:
    """The one of formats.md, but for what else had to be built; nothing is uploaded yet."""
    start = built.said.index("Processing package from './pkgs/nginx' for linux/amd64.")
    assert built.said[0] == "Building Sysadmin42/nginx-production-1.22.1-p1"
    assert re.fullmatch("    HASH: [0-9a-f]{64}", built.said[start + 1])
    assert built.said[start + 2 :] == [
        "    Can't find HASH in any known location...",
        f"{'    Defaulting to local build...':<75}[OK]",
        f"{'Packaging Sysadmin42/nginx-production-1.22.1-p1 as ACI...':<75}[OK]",
    ]


def test_the_flags_are_in_the_program(built: Built) -> None:
    shown = built.program("run", "--rm", "--network", "none", IMAGE, "-V").err
    words = shown.partition("configure arguments: ")[2].split()
    assert {"--with-ipv6", "--with-threads", "--with-http_ssl_module", "--with-pcre"} <= set(words)
    assert not [word for word in words if "mail" in word]
    assert "OpenSSL 3.0." in shown


def test_natively(built: Built, sites: Path) -> None:
    plain, tls = free_port(), free_port()
    ports = ("-p", f"127.0.0.1:{plain}:80", "-p", f"127.0.0.1:{tls}:8443")
    built.program("run", "-d", "--name", "nginx-prod", "-v", f"{sites}:/etc/nginx/sites:ro", *ports, IMAGE)
    try:
        check_answers(f"http://127.0.0.1:{plain}/", f"https://127.0.0.1:{tls}/")
        assert "plain http request denied" in built.program("logs", "nginx-prod").out
    finally:
        built.program("rm", "-f", "nginx-prod")


@pytest.mark.engine("podman")
def test_podman(built: Built, sites: Path) -> None:
    built.program("export", IMAGE, "--load", "podman")
    limits = ("--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000", "--network", "none")
    volume = f"{sites}:/etc/nginx/sites:ro"
    container = said("podman", "run", "-d", *limits, "-v", volume, f"localhost/{IMAGE}").strip()
    try:
        pid = said("podman", "inspect", "-f", "{{.State.Pid}}", container)
        check_answers("http://127.0.0.1/", "https://127.0.0.1:8443/", *in_namespace(pid))
    finally:
        said("podman", "rm", "-f", "-t", "0", container)
        said("podman", "rmi", f"localhost/{IMAGE}")


@pytest.mark.engine("docker")
def test_docker(built: Built, sites: Path) -> None:
    built.program("export", IMAGE, "--load", "docker")
    docker, volume = "/usr/bin/docker", f"{sites}:/etc/nginx/sites:ro"
    container = said(docker, "run", "-d", "--network", "none", "-v", volume, IMAGE).strip()
    try:
        pid = said(docker, "inspect", "-f", "{{.State.Pid}}", container)
        check_answers("http://127.0.0.1/", "https://127.0.0.1:8443/", *in_namespace(pid))
    finally:
        said(docker, "rm", "-f", container)
        said(docker, "rmi", IMAGE)


@pytest.fixture
def example(tmp_path: Path) -> Callable[..., Path]:
    """A copy of the example with a changed container.yaml."""

    def make(*changes: tuple[str, str]) -> Path:
        said("cp", "-r", EXAMPLE, tmp_path / "nginx-prod")
        file = tmp_path / "nginx-prod/container.yaml"
        text = file.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        file.write_text(text)
        (tmp_path / "out").mkdir()
        return tmp_path / "nginx-prod"

    return make


@pytest.mark.engine("lxd")
def test_lxd(built: Built, sites: Path, example: Callable[..., Path]) -> None:
    content = '{"config": {"Entrypoint": ["/usr/sbin/nginx"]}}'
    old = EXAMPLE.joinpath("container.yaml").read_text().partition("    type: aci")[2]
    place = example(("    type: aci" + old, f"    type: lxd\n    content: '{content}'\n"))
    out = place.parent / "out"
    built.program("build", place, "-t", "nginx-lxd", cwd=out)
    said("lxc", "image", "import", out / ACI.replace(".aci", ".lxd.tar.gz"), "--alias", INSTANCE)
    try:
        said("lxc", "init", INSTANCE, INSTANCE, "-c", "raw.lxc=lxc.init.cmd = /usr/sbin/nginx")
        device = (f"source={sites}", "path=/etc/nginx/sites", "readonly=true")
        said("lxc", "config", "device", "add", INSTANCE, "sites", "disk", *device)
        said("lxc", "start", INSTANCE)
        (instance,) = json.loads(said("lxc", "list", f"^{INSTANCE}$", "--format", "json"))
        pid = str(instance["state"]["pid"])
        check_answers("http://127.0.0.1/", "https://127.0.0.1:8443/", *in_namespace(pid))
    finally:
        subprocess.run(["lxc", "delete", "-f", INSTANCE], check=False, capture_output=True)
        said("lxc", "image", "delete", INSTANCE)


def test_the_aci_is_as_its_specification_says(built: Built) -> None:
    """App Container Specification: "Image Archives", "Image Manifest Schema", "AC Identifier Type"."""
    with gzip.open(built.out / ACI) as stream, tarfile.open(fileobj=stream) as archive:
        names = archive.getnames()
        manifest = json.load(archive.extractfile("manifest") or pytest.fail("no manifest"))
        program = archive.extractfile("rootfs/usr/sbin/nginx") or pytest.fail("no program")
        assert DENIED.encode() in program.read()
    assert {name.partition("/")[0] for name in names} == {"manifest", "rootfs"}
    assert len(names) == len(set(names))
    assert manifest["name"] == "nginx-production-1.22.1-p1"
    assert re.fullmatch(r"[a-z0-9]+([-._~/][a-z0-9]+)*", manifest["name"])
    assert (manifest["acKind"], manifest["acVersion"]) == ("ImageManifest", "0.6.1")
    assert manifest["labels"] == [{"name": "os", "value": "linux"}, {"name": "arch", "value": "amd64"}]
    assert manifest["app"] == {"exec": ["/usr/sbin/nginx"], "user": "0", "group": "0"}


def test_nothing_is_done_again(built: Built, tmp_path: Path) -> None:
    before = (built.out / ACI).stat()
    lines = built.program("build", EXAMPLE, cwd=built.out).err.splitlines()
    assert lines[3] == f"{'    Found HASH in the local store...':<75}[OK]"
    assert lines[4] == f"{'Packaging Sysadmin42/nginx-production-1.22.1-p1 as ACI...':<67}[UP TO DATE]"
    assert (built.out / ACI).stat() == before
    plan = built.program("build", "--dry-run", "-o", f"tar:{tmp_path}/x.tar", EXAMPLE).out
    assert {line.split()[0] for line in plan.splitlines()} == {"CACHED"}


def test_what_is_inside(built: Built, tmp_path: Path) -> None:
    listed = json.loads(built.program("list", IMAGE, "--json").out)
    packages = {package["package"]: package for package in listed["packages"]}
    assert packages.keys() == {"nginx", "openssl", "pcre2", "zlib", "libxcrypt", "libc6", "libgcc-s1"}
    nginx = packages["nginx"]
    assert (nginx["version"], nginx["licence"]) == ("1.22.1", "BSD-2-Clause")
    assert nginx["source"] == "https://nginx.org/download/nginx-1.22.1.tar.gz"
    assert [name for name, _ in nginx["patches"]] == ["https-only.patch", "quiet.patch"]
    assert nginx["identity"].partition(":")[2] == built.said[built.said.index(PACKAGE) + 1].split()[1]
    assert listed["unowned"] == []
    assert listed["changed"] == {"sync ./files/nginx.conf /etc/nginx/nginx.conf": ["etc/nginx/nginx.conf"]}
    why = built.program("why", IMAGE, "libssl.so.3").out
    assert "www-servers/nginx-1.22.1 needs it: /usr/sbin/nginx" in why
    assert "libs/openssl" in built.program("owns", IMAGE, "/lib/x86_64-linux-gnu/libcrypto.so.3").out
    check_bills(built.program, tmp_path)


PACKAGE = "Processing package from './pkgs/nginx' for linux/amd64."


def check_bills(program: Program, tmp_path: Path) -> None:
    """Both documents satisfy the programs that their formats' own authors wrote."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    program("sbom", IMAGE, "-o", tmp_path / "nginx.spdx.json")
    subprocess.run(["pyspdxtools", "-i", tmp_path / "nginx.spdx.json"], check=True, env=_tools())
    program("sbom", IMAGE, "--format", "cyclonedx", "-o", tmp_path / "nginx.cdx.json")
    text = (tmp_path / "nginx.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    parts = {part["name"]: part for part in json.loads(text)["components"]}
    assert parts["nginx"]["version"] == "1.22.1"
    assert {"openssl", "zlib", "pcre2", "libc6"} <= parts.keys()


def _tools() -> dict[str, str]:
    return {**os.environ, "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}"}


@pytest.fixture
def diffed(built: Built, example: Callable[..., Path]) -> Iterator[Program]:
    """Another image, with another configuration file and another user."""
    place = example(("version: 1.22.1-p1", "version: 1.22.1-p2"), ('"user": "0"', '"user": "101"'))
    (place / "files/nginx.conf").write_text("daemon off;\nevents {}\n")
    built.program("build", place, "-t", "nginx-other", cwd=place.parent / "out")
    yield built.program
    built.program("rm", "nginx-other")


def test_two_of_them_compared(diffed: Program) -> None:
    found = json.loads(diffed("diff", IMAGE, "nginx-other", "--json").out)
    assert found["packages"] == []
    assert [change["path"] for change in found["files"]] == ["etc/nginx/nginx.conf"]
    assert found["configuration"]["user"] == ["", "101:0"]
