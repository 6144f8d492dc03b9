"""Downloads from a web server of Debian's, with TLS and through a proxy; places that `--discover` finds on servers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import IN_CI
from tests.integration import registries
from tests.integration.binhosts import World
from tests.integration.conftest import free_port, until
from tests.integration.servers import listens
from tests.integration.web import commit, serving

NGINX = """\
daemon off;
user root;
worker_processes 1;
pid {place}/nginx.pid;
error_log {place}/error.log;
events {{ worker_connections 64; }}
http {{
    log_format plain '$server_port $request_method $uri $status';
    access_log {place}/access.log plain;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    proxy_cache_path {place}/cache keys_zone=cdn:1m;
    server {{ listen 127.0.0.1:{port}; root {root}; location /git/ {{ proxy_pass {git}; }} }}
    server {{
        listen 127.0.0.1:{tls} ssl; root {root};
        ssl_certificate {place}/server.crt; ssl_certificate_key {place}/server.key;
        location /git/ {{ proxy_pass {git}; }}
    }}
    server {{
        listen 127.0.0.1:{cdn};
        location / {{
            proxy_pass http://127.0.0.1:{port};
            proxy_cache cdn; proxy_cache_valid 200 206 1y; proxy_cache_valid 404 1s;
            proxy_ignore_headers Cache-Control Expires;
        }}
    }}
}}
"""
TINYPROXY = """\
Port {port}
Listen 127.0.0.1
Timeout 60
LogFile "{place}/proxy.log"
LogLevel Connect
MaxClients 20
"""


def needed(program: str) -> str:
    """The path of a program that scripts/engines.sh installs."""
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        if IN_CI:
            pytest.fail(f"{program} is missing", pytrace=False)
        pytest.skip(f"{program} is missing; `make engines` installs it")
    return found


class Nginx:
    """Debian's nginx before a directory, in plain and with TLS; below /git/ are repositories."""

    def __init__(self, place: Path, root: Path, git: str) -> None:
        self.place, self.port, self.tls, self.cdn = place, free_port(), free_port(), free_port()
        self.authority = place / "ca.pem"
        place.mkdir()
        _certificates(place)
        text = NGINX.format(place=place, port=self.port, tls=self.tls, cdn=self.cdn, root=root, git=git)
        (place / "nginx.conf").write_text(text)
        words: list[str | Path] = [needed("nginx"), "-c", place / "nginx.conf", "-e", place / "error.log"]
        self.process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        until(lambda: listens(self.tls))

    def log(self) -> str:
        return (self.place / "access.log").read_text()

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)


def _certificates(place: Path) -> None:
    """An authority of the test's own, and a certificate of 127.0.0.1."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=place, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for name in ("ca", "other"):
        openssl(
            "req", "-x509", *key, "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem"
        )
    openssl("req", *key, "-subj", "/CN=server", "-keyout", "server.key", "-out", "server.csr")
    (place / "names").write_text("subjectAltName=IP:127.0.0.1")
    signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
    openssl("x509", "-req", "-in", "server.csr", *signing, "-out", "server.crt")


@pytest.fixture
def nginx(world: World) -> Iterator[Nginx]:
    world.machine("admin")("repo", "init", world.repository)
    (world.path / "git").mkdir()
    with serving(world.path / "git") as git:
        found = Nginx(world.path / "nginx", world.path, git.url)
        yield found
        found.close()


@pytest.fixture
def proxy(world: World) -> Iterator[str]:
    """A proxy's address."""
    place = world.path / "tinyproxy"
    place.mkdir()
    port = free_port()
    (place / "conf").write_text(TINYPROXY.format(port=port, place=place))
    process = subprocess.Popen([needed("tinyproxy"), "-d", "-c", place / "conf"], stdout=subprocess.DEVNULL)
    until(lambda: listens(port))
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(10)


def reading(world: World, address: str, more: str = "") -> None:
    """Uploads are written as files, downloads come from `address`."""
    world.configuration = (
        f"{{name: here, upload-type: directory, upload-path: {world.repository},"
        f" download-type: {address.partition(':')[0]}, download-path: '{address}', time-limit: 5{more}}}"
    )
    world.configure()


def test_a_web_server_with_tls(world: World, nginx: Nginx) -> None:
    address = f"https://127.0.0.1:{nginx.tls}/repository"
    first = world.machine("first")
    world.configuration = f"{{name: here, type: directory, path: {world.repository}}}"
    world.configure()
    first("build", world.tree / "pkgs/app", "--push")
    world.trust(first)
    reading(world, address)
    refused = world.machine("refused")("build", world.tree / "pkgs/lib")
    assert "[repository.tls]" in refused.err  # nobody vouches for the certificate
    assert "Can't find HASH" in refused.err
    reading(world, address, f", ca: {nginx.authority}")
    configured = world.machine("configured")("build", world.tree / "pkgs/app")
    assert configured.err.count("Found HASH in 'here'") == 2
    reading(world, address, f", ca: {nginx.place}/other.pem")
    assert "[repository.tls]" in world.machine("other")("build", world.tree / "pkgs/lib").err
    reading(world, address)
    world.environment["SSL_CERT_FILE"] = str(nginx.authority)
    by_environment = world.machine("environment")("build", world.tree / "pkgs/app")
    assert by_environment.err.count("Found HASH in 'here'") == 2
    world.verify()


FORGOTTEN = 2.1
"""Seconds after which nginx asks again for what it was to remember for one: it counts whole ones."""


@pytest.mark.long
def test_behind_a_cache(world: World, nginx: Nginx) -> None:
    """A CDN that keeps all objects for a year, and "not found" for a second."""
    first = world.machine("first")
    world.move()  # it is made through the cache too
    reading(world, f"http://127.0.0.1:{nginx.cdn}/repository")
    first("build", world.tree / "pkgs/lib", "--push")
    world.trust(first)
    build = ("build", world.tree / "pkgs/app", "--no-test")
    time.sleep(FORGOTTEN)
    second = world.machine("second")(*build)
    assert second.err.count("Found HASH in 'here'") == 1
    assert second.err.count("Can't find HASH") == 1
    first("build", world.tree / "pkgs/app", "--push")
    time.sleep(FORGOTTEN)
    third = world.machine("third")(*build)
    assert "Found HASH in 'here'" in third.err
    assert "Can't find HASH" not in third.err
    before = nginx.log()
    assert "Found HASH in 'here'" in world.machine("fourth")(*build).err
    asked = [line for line in nginx.log()[len(before) :].splitlines() if line.startswith(f"{nginx.port} ")]
    assert not [line for line in asked if line.endswith((" 200", " 206"))], asked
    world.verify()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_through_a_proxy(world: World, nginx: Nginx, proxy: str, scheme: str) -> None:
    port = nginx.tls if scheme == "https" else nginx.port
    first = world.machine("first")
    reading(world, f"{scheme}://127.0.0.1:{port}/repository", f", ca: {nginx.authority}")
    first("build", world.tree / "pkgs/app", "--push")
    world.trust(first)
    log = world.path / "tinyproxy/proxy.log"
    before = log.read_text()
    world.environment |= {"http_proxy": proxy, "https_proxy": proxy, "no_proxy": ""}
    found = world.machine("second")("build", world.tree / "pkgs/app")
    assert found.err.count("Found HASH in 'here'") == 2
    assert f"127.0.0.1:{port}" in log.read_text()[len(before) :] or "/repository/" in log.read_text()[len(before) :]
    world.environment |= {"http_proxy": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1"}
    assert "[repository.unreachable]" in world.machine("third")("build", world.tree / "pkgs/lib").err
    world.environment["no_proxy"] = "127.0.0.1"
    assert "Found HASH in 'here'" in world.machine("fourth")("build", world.tree / "pkgs/lib").err


def site(world: World, place: Path, configuration: str) -> None:
    """A configuration and a package tree for whoever discovers this place."""
    place.mkdir(parents=True, exist_ok=True)
    (place / ".boxwright-config.yaml").write_text(configuration)
    shutil.copytree(world.tree / "pkgs", place / "packages/demo", dirs_exist_ok=True)
    for path in place.glob("packages/demo/*/pkg.yaml"):
        path.write_text(path.read_text().replace("./../lib", "demo/lib"))


@pytest.mark.parametrize("kind", ["site", "git-https", pytest.param("git-ssh", marks=pytest.mark.engine("ssh"))])
def test_discovered_over_a_real_network(world: World, nginx: Nginx, kind: str, request: pytest.FixtureRequest) -> None:
    """One machine publishes what it builds by a place alone, another has only its address."""
    first = world.machine("first")
    upload = f"upload-type: directory, upload-path: {world.repository}"
    if kind == "git-ssh":
        request.getfixturevalue("ssh")
    world.keys = first("repo", "key").out.strip()
    down = f"download-type: https, download-path: '127.0.0.1:{nginx.tls}/repository'"
    text = f"repository: {{name: found, {upload}, {down}, keys: ['{world.keys}']}}\n"
    place = world.path / ("git/containers.git" if kind.startswith("git") else "site")
    site(world, place, text)
    if kind == "site":
        archive = place / "packages.tar.zst"
        subprocess.run(["tar", "--zstd", "-cf", archive, "-C", place / "packages", "."], check=True)
        shutil.rmtree(place / "packages")
        address = f"https://127.0.0.1:{nginx.tls}/site"
    else:
        files = {str(path.relative_to(place)): path.read_text() for path in place.rglob("*") if path.is_file()}
        commit(place, dict(files))
        address = f"https://127.0.0.1:{nginx.tls}/git/containers.git"
        if kind == "git-ssh":
            address = f"ssh://mysuperbinhost{place}"
            world.environment["GIT_SSH_COMMAND"] = f"ssh -F {world.path}/ssh/config"
    (world.tree / ".boxwright-config.yaml").unlink()
    environment = {"SSL_CERT_FILE": str(nginx.authority), "GIT_SSL_CAINFO": "", **world.environment}
    machines = [world.machine(name).with_environment(**environment) for name in ("first", "second", "third")]
    (world.tree / ".boxwright-config.yaml").unlink()
    target = world.path / "own"
    shutil.copytree(world.tree / "pkgs/app", target)
    (target / "pkg.yaml").write_text((target / "pkg.yaml").read_text().replace("./../lib", "demo/lib"))
    built = machines[0]("build", target, f"--discover={address},push=True")
    assert "Uploading packages to 'found'" in built.err
    found = machines[1]("build", target, f"--discover={address}")
    assert found.err.count("Found HASH in 'found'") == 2
    assert "offline" not in machines[1]("build", target, f"--discover={address}", "--offline").err
    failed = machines[2]("build", target, f"--discover={address}-not-there", status=None)
    assert failed.status in (2, 5)
    assert "[fetch." in failed.err or "[git." in failed.err
    assert "Traceback" not in failed.err


def test_a_container_is_pushed_to_a_registry(world: World, tmp_path: Path) -> None:
    """Where no repository is configured `--push` means registries, for containers of packages too."""
    out = tmp_path / "out"
    out.mkdir()
    with registries.serving(tmp_path / "registry") as registry:
        name = f"{registry.host}/team/app:v1"
        first, second = world.machine("first"), world.machine("second")
        (world.tree / ".boxwright-config.yaml").unlink()
        built = first("build", world.tree, "-t", name, "--push", cwd=out)
        assert f"{name}@sha256:" in built.out + built.err
        manifest = registry.get("team/app/manifests/v1")
        assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
        second("pull", name, cwd=out)
        images = [json.loads(it("inspect", name, cwd=out).out)[0] for it in (first, second)]
        assert images[0] == images[1]
        again = first("build", world.tree, "-t", name, "--push", cwd=out)
        assert f"{name}@sha256:" in again.out + again.err
        refused = first("build", world.tree, "--push", status=2, cwd=out)
        assert "[usage." in refused.err or "[repository." in refused.err
