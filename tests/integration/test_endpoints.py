"""Endpoints of engines that are reached by TLS: docker at ``tcp://``, LXD as a remote. Both sides have certificates."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from boxwright.engines.lxdclient.address import find_endpoint
from boxwright.engines.lxdclient.client import LxdClient
from tests.conftest import Program
from tests.integration.conftest import free_port, until
from tests.integration.servers import listens
from tests.integration.test_stacks import RECIPE, START

pytestmark = pytest.mark.integration

MANIFEST = """\
image: tar:BASE
install:
  - {run: "echo one >/one; i=0; while [ $i -lt 3000 ]; do echo $i 0123456789; i=$((i+1)); done", network: none}
  - {run: echo two >/two, network: none}
script:
  - {run: test -e /one, network: none}
artifact: endpoints/test
"""


@pytest.fixture
def project(tmp_path: Path, busybox_base: Path) -> Path:
    place = tmp_path / "project"
    place.mkdir()
    (place / "manifest.yaml").write_text(MANIFEST.replace("BASE", str(busybox_base)))
    return place


def built(program: Program, project: Path, *words: str) -> None:
    """Both steps are done there, and nothing of what the first one says is lost."""
    done = program("build", project, "--progress", "plain", *words)
    said = [line.partition(" ")[2] for line in done.err.splitlines() if line.endswith(" 0123456789")]
    assert said == [f"{number} 0123456789" for number in range(3000)]
    assert program("run", "--rm", "--network", "none", "endpoints/test", "cat", "/one", "/two").out == "one\ntwo\n"


# Docker --------------------------------------------------------------------------------------------------------------


class Authority(NamedTuple):
    """Who vouches for a server and a client: `certificates` is the client's directory, as docker wants it."""

    place: Path

    @property
    def certificates(self) -> Path:
        return self.place / "client"


def new_authority(place: Path) -> Authority:
    """A certificate authority, with a certificate for a server on loopback and one for a client."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    place.mkdir()
    extensions = place / "extensions"
    extensions.write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
    authority = ("req", "-x509", *key, "-keyout", "ca.key", "-subj", "/CN=authority", "-days", "2", "-out", "ca.pem")
    _openssl(place, *authority)
    for name in ("server", "client"):
        (place / name).mkdir()
        _openssl(place, "req", *key, "-keyout", f"{name}/key.pem", "-subj", f"/CN={name}", "-out", f"{name}/request")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "extensions")
        _openssl(place, "x509", "-req", "-in", f"{name}/request", *signed, "-out", f"{name}/cert.pem")
        shutil.copy(place / "ca.pem", place / name)
    return Authority(place)


def _openssl(place: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=place, check=True, capture_output=True)


class Daemon(NamedTuple):
    """A docker of our own that wants certificates."""

    address: str
    authority: Authority


@pytest.fixture(scope="module")
def docker_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    authority = new_authority(tmp_path_factory.mktemp("docker") / "authority")
    top = Path(tempfile.mkdtemp(prefix="bw-docker-", dir="/var/tmp"))
    own = Path(tempfile.mkdtemp(prefix="bw-docker-", dir="/run"))  # sockets want short paths
    server = authority.place / "server"
    port = free_port()
    words: list[str | Path] = [
        *("dockerd", "--host", f"tcp://127.0.0.1:{port}", "--data-root", top, "--exec-root", own),
        # No word of a bridge: a daemon that wants none removes the docker0 that others use.
        *("--pidfile", own / "pid", "--iptables=false", "--ip-forward=false"),
        *("--tlsverify", "--tlscacert", server / "ca.pem"),
        *("--tlscert", server / "cert.pem", "--tlskey", server / "key.pem"),
    ]
    with (top / "log").open("wb") as log:
        daemon = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
    try:
        until(lambda: "API listen" in (top / "log").read_text(), 60)
        yield Daemon(f"tcp://127.0.0.1:{port}", authority)
    finally:
        daemon.terminate()
        daemon.wait(30)
        shutil.rmtree(top, ignore_errors=True)
        shutil.rmtree(own, ignore_errors=True)


@pytest.mark.engine("docker")
def test_docker_by_tls(fresh_boxwright: Program, docker_daemon: Daemon, project: Path, tmp_path: Path) -> None:
    (tmp_path / "none.pem").touch()
    program = fresh_boxwright.with_environment(
        DOCKER_TLS_VERIFY="1",
        DOCKER_CERT_PATH=str(docker_daemon.authority.certificates),
        REQUESTS_CA_BUNDLE=str(tmp_path / "none.pem"),  # whom this machine trusts elsewhere doesn't count here
    )
    built(program, project, "--engine", "docker", "--endpoint", docker_daemon.address)
    # What the context of a shell says, without --endpoint.
    again = program.with_environment(DOCKER_HOST=docker_daemon.address).at(tmp_path / "other")
    assert "CACHED [image] run echo two" in again("build", project, "--engine", "docker").err


@pytest.mark.engine("docker")
@pytest.mark.parametrize(
    "spoil", ["another client", "another server", "no key", "a damaged certificate", "no directory", "no TLS"]
)
def test_certificates_that_docker_or_we_refuse(
    fresh_boxwright: Program, docker_daemon: Daemon, project: Path, tmp_path: Path, spoil: str
) -> None:
    place = tmp_path / "certificates"
    shutil.copytree(docker_daemon.authority.certificates, place)
    program = fresh_boxwright.with_environment(DOCKER_TLS_VERIFY="1", DOCKER_CERT_PATH=str(place))
    names = ""
    match spoil:
        case "another client":
            others = new_authority(tmp_path / "others").certificates
            for name in ("cert.pem", "key.pem"):
                shutil.copy(others / name, place)
            names = docker_daemon.address
        case "another server":
            shutil.copy(new_authority(tmp_path / "others").place / "ca.pem", place)
            names = docker_daemon.address
        case "no key":
            (place / "key.pem").unlink()
            names = str(place / "key.pem")
        case "a damaged certificate":
            (place / "cert.pem").write_text("-----BEGIN CERTIFICATE-----\n")
            names = str(place)
        case "no directory":
            shutil.rmtree(place)
            names = str(place / "ca.pem")
        case "no TLS":
            program = fresh_boxwright.with_environment(DOCKER_TLS_VERIFY="")
    refused = program("build", project, "--engine", "docker", "--endpoint", docker_daemon.address, status=3)
    assert "[engine.certificate]" in refused.err
    assert names in refused.err
    assert "DOCKER_CERT_PATH" in refused.err


@pytest.mark.engine("docker")
@pytest.mark.engine("registry")
def test_an_address_that_speaks_no_tls(fresh_boxwright: Program, docker_daemon: Daemon, project: Path) -> None:
    certificates = str(docker_daemon.authority.certificates)
    program = fresh_boxwright.with_environment(DOCKER_TLS_VERIFY="1", DOCKER_CERT_PATH=certificates)
    words = ("build", project, "--engine", "docker", "--endpoint")
    assert "[engine.certificate]" in program(*words, "tcp://127.0.0.1:5000", status=3).err
    assert "[engine.unreachable]" in program(*words, f"tcp://127.0.0.1:{free_port()}", status=3).err
    assert "[engine.address]" in program(*words, "tcp://127.0.0.1:port", status=2).err


# LXD -----------------------------------------------------------------------------------------------------------------


class Remote(NamedTuple):
    """The machine's LXD by HTTPS: the configuration of the `lxc` client that knows it as `there`."""

    configuration: Path
    address: str


@pytest.fixture
def lxd_remote(tmp_path: Path) -> Iterator[Remote]:
    configuration = tmp_path / "lxc"
    (configuration / "servercerts").mkdir(parents=True)
    with LxdClient(find_endpoint("", {})) as client:
        before = client.get("")["config"].get("core.https_address", "")
        address = before or f"127.0.0.1:{free_port()}"
        client.run("PATCH", "", {"config": {"core.https_address": address}})
        subject = ("-subj", f"/CN=boxwright-test-{os.getpid()}", "-days", "2")
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "client.key")
        _openssl(configuration, "req", "-x509", *key, *subject, "-out", "client.crt")
        certificate = (configuration / "client.crt").read_text()
        client.run("POST", "/certificates", {"type": "client", "certificate": _inner(certificate), "name": "a test's"})
        trusted = [it for it in client.get("/certificates", recursion="1") if it["certificate"] == certificate]
        pinned = client.get("")["environment"]["certificate"]
        (configuration / "servercerts/there.crt").write_text(pinned)
        (configuration / "config.yml").write_text(
            f"remotes:\n  there: {{addr: 'https://{address}', protocol: lxd, auth_type: tls}}\n"
        )
        try:
            until(lambda: listens(int(address.rpartition(":")[2])))
            yield Remote(configuration, f"https://{address}")
        finally:
            for it in trusted:
                client.run("DELETE", f"/certificates/{it['fingerprint']}")
            client.run("PATCH", "", {"config": {"core.https_address": before}})
    assert trusted


def _inner(certificate: str) -> str:
    return "".join(certificate.split("-----")[2].split())


@pytest.mark.engine("lxd")
def test_lxd_as_a_remote(
    fresh_boxwright: Program, lxd_remote: Remote, project: Path, forgetting: Callable[[str, Program], None]
) -> None:
    forgetting("lxd", fresh_boxwright)
    program = fresh_boxwright.with_environment(LXD_CONF=str(lxd_remote.configuration))
    built(program, project, "--engine", "lxd", "--endpoint", "there")


@pytest.mark.long
@pytest.mark.engine("lxd")
def test_a_stack_on_a_remote(boxwright: Program, lxd_remote: Remote, busybox_base: Path, tmp_path: Path) -> None:
    """Deployed from a machine that is no member: images are sent, ports are asked from inside."""
    program = boxwright.with_environment(LXD_CONF=str(lxd_remote.configuration))
    place = tmp_path / "far"
    (place / "web").mkdir(parents=True)
    (place / "web/Recipe").write_text(RECIPE.format(base=busybox_base))
    (place / "web/page").write_text("from afar\n")
    (place / "web/start").write_text(START)
    (place / "web/start").chmod(0o755)
    name = f"far{os.getpid()}"
    (place / "autopilot.yaml").write_text(
        f"name: {name}\ncontainers:\n  web:\n    build: ./web\n    volumes: ['{tmp_path}:/mnt:ro']\n"
        "    healthcheck: {http: /index.html, port: 80, interval: 200ms}\n"
        "cluster: {engine: lxd, remote: there}\n"
    )
    try:
        said = program("deploy", cwd=place).err
        assert f"note: web-1: {tmp_path} is looked for on the server, not here" in said
        assert "well" in program("status", cwd=place).out
        assert program("exec", "/web", "cat", "/srv/index.html", cwd=place).out == "from afar\n"
        assert "web-1 | from afar" in program("logs", cwd=place).out
        assert program("deploy", cwd=place).out == f"{name}: nothing to do\n"
        (place / "web/page").write_text("from farther\n")
        program("deploy", cwd=place)
        assert program("exec", "/web", "cat", "/srv/index.html", cwd=place).out == "from farther\n"
    finally:
        program("destroy", "--yes", cwd=place)
    assert "[lxd.remote]" in program("deploy", "--remote", "nowhere", cwd=place, status=2).err


@pytest.mark.engine("lxd")
def test_certificates_that_lxd_or_we_refuse(fresh_boxwright: Program, lxd_remote: Remote, project: Path) -> None:
    program = fresh_boxwright.with_environment(LXD_CONF=str(lxd_remote.configuration))
    place = lxd_remote.configuration

    def refused(endpoint: str, status: int) -> str:
        return program("build", project, "--engine", "lxd", "--endpoint", endpoint, status=status).err

    pinned = (place / "servercerts/there.crt").read_text()
    (place / "servercerts/there.crt").write_text((place / "client.crt").read_text())
    assert "[lxd.certificate]" in refused("there", 3)
    (place / "servercerts/there.crt").write_text(pinned)
    # Nobody pinned it by this name, and no public authority knows it.
    assert "[lxd.certificate]" in refused(lxd_remote.address, 3)
    (place / "client.key").rename(place / "kept")
    missing = refused("there", 3)
    assert "[lxd.certificate]" in missing
    assert str(place / "client.key") in missing
    (place / "client.key").write_text("nothing\n")
    assert "[lxd.certificate]" in refused("there", 3)
    # A client that it does not know.
    words = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "client.key")
    _openssl(place, "req", "-x509", *words, "-subj", "/CN=stranger", "-days", "2", "-out", "client.crt")
    assert "[lxd.denied]" in refused("there", 1)
    assert "[lxd.remote]" in refused("nowhere", 2)
