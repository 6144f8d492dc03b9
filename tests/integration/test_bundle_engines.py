"""Applications of base images in two revisions: natively, in podman, docker and LXD, over HTTPS and from a bucket."""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Program
from tests.integration.bundles import Running, make_certificate, served
from tests.integration.conftest import Base, free_port, until
from tests.integration.servers import Account, s3_account

pytestmark = pytest.mark.integration

PYTHON = """import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"python REVISION")
    def log_message(self, *words):
        pass
http.server.HTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"""
APPLICATIONS = {"python": ("app.py", PYTHON), "php": ("index.php", '<?php echo "php REVISION";\n')}
TOKEN = "token-of-the-test"
LIMITS = ("--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000")


def output(*words: str | Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=300)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout.strip()


class Engine(ABC):
    """Where a container of a base image runs."""

    system = False

    def __init__(self, program: Program, kind: str) -> None:
        self.program, self.image = program, f"base/{kind}"
        self.name = f"bundle-{kind}-{free_port()}"

    @abstractmethod
    def load(self) -> None:
        """Bring the image to the engine."""

    @abstractmethod
    def start(self, environment: Mapping[str, str], certificate: Path, servers: list[int]) -> None:
        """Start a container that reaches these ports of loopback, and has the certificate as /tls.crt."""

    @abstractmethod
    def look_again(self) -> None:
        """Send SIGHUP."""

    def stop(self) -> None:
        """End the container, so that another one can be started."""
        self.remove()

    @abstractmethod
    def remove(self) -> None:
        """Remove the container."""

    @abstractmethod
    def unload(self) -> None:
        """Remove the image from the engine."""


class Native(Engine):
    def load(self) -> None:
        pass

    def unload(self) -> None:
        pass

    def start(self, environment: Mapping[str, str], certificate: Path, servers: list[int]) -> None:
        del servers
        words = [word for name, value in environment.items() for word in ("-e", f"{name}={value}")]
        self.program(
            "run",
            "-d",
            "--network",
            "host",
            "--name",
            self.name,
            *words,
            "-v",
            f"{certificate}:/tls.crt:ro",
            self.image,
        )

    def look_again(self) -> None:
        self.program("exec", self.name, "sh", "-c", "kill -HUP 1")

    def remove(self) -> None:
        self.program("rm", "-f", self.name, status=None)


class Podman(Engine):
    kind = client = "podman"
    limits: tuple[str, ...] = LIMITS
    prefix = "localhost/"

    def load(self) -> None:
        self.program("export", self.image, "--load", self.kind, timeout=300)

    def start(self, environment: Mapping[str, str], certificate: Path, servers: list[int]) -> None:
        del servers
        words = [word for name, value in environment.items() for word in ("-e", f"{name}={value}")]
        mount = ["-v", f"{certificate}:/tls.crt:ro"]
        image = f"{self.prefix}{self.image}:latest"
        output(self.client, "run", "-d", "--name", self.name, *self.limits, "--network", "host", *mount, *words, image)

    def look_again(self) -> None:
        output(self.client, "kill", "-s", "HUP", self.name)

    def remove(self) -> None:
        subprocess.run([self.client, "rm", "-f", self.name], check=False, capture_output=True)

    def unload(self) -> None:
        subprocess.run([self.client, "rmi", f"{self.prefix}{self.image}:latest"], check=False, capture_output=True)


class Docker(Podman):
    kind, client = "docker", "/usr/bin/docker"
    limits = ()
    prefix = ""


class Lxd(Engine):
    """A system container: systemd starts the installer by its unit. Proxies join its loopback with the machine's."""

    system = True

    def __init__(self, program: Program, kind: str) -> None:
        super().__init__(program, kind)
        self.image = f"base-{kind}-system"
        self._given: Mapping[str, str] = {}

    def load(self) -> None:
        self.program("export", self.image.replace("-", "/", 1), "--load", "lxd", timeout=300)

    def start(self, environment: Mapping[str, str], certificate: Path, servers: list[int]) -> None:
        if not self._given:
            output("lxc", "init", self.image, self.name)
            output("lxc", "file", "push", certificate, f"{self.name}/tls.crt")
        for name in {*self._given, *environment}:
            output("lxc", "config", "set", self.name, f"environment.{name}={environment.get(name, '')}")
        self._given = environment
        for port in servers:
            self._join(port, "instance")
        self._join(int(environment["PORT"]), "host")
        output("lxc", "start", self.name)

    def stop(self) -> None:
        """Making another one of the image takes ten seconds."""
        output("lxc", "stop", "-f", self.name)

    def _join(self, port: int, side: str) -> None:
        place = f"tcp:127.0.0.1:{port}"
        words = [f"listen={place}", f"connect={place}", f"bind={side}"]
        output("lxc", "config", "device", "add", self.name, f"p{port}", "proxy", *words)

    def look_again(self) -> None:
        output("lxc", "exec", self.name, "--", "systemctl", "reload", "boxwright-bundle")

    def remove(self) -> None:
        subprocess.run(["lxc", "delete", "-f", self.name], check=False, capture_output=True)

    def unload(self) -> None:
        subprocess.run(["lxc", "image", "delete", self.image], check=False, capture_output=True)


LONG = pytest.mark.long


def case(make: type[Engine], kind: str, *more: pytest.MarkDecorator) -> Any:
    """An engine and an application; natively no mark says that an engine is needed."""
    name = make.__name__.lower()
    marks = [*more, *([] if make is Native else [pytest.mark.engine(name)])]
    return pytest.param(make, kind, id=f"{name}-{kind}", marks=marks)


CASES = [
    case(Native, "python", LONG),
    case(Native, "php", LONG),
    case(Podman, "python", LONG),
    case(Podman, "php", LONG),
    case(Docker, "python", LONG),
    case(Docker, "php", LONG),
    case(Lxd, "python", LONG),
    case(Lxd, "php", LONG),
]


@pytest.fixture
def account() -> Iterator[Account]:
    with s3_account() as found:
        yield found


@pytest.mark.parametrize(("make", "kind"), CASES)
def test_two_revisions(make: type[Engine], kind: str, base: Base, account: Account, tmp_path: Path) -> None:
    """The same image everywhere; two revisions come over HTTPS with a token, then two from a bucket."""
    engine = make(base(kind, system=make.system), kind)
    app, dist, bucket = tmp_path / "shop", tmp_path / "dist", f"s3://bucket/{tmp_path.name}"
    app.mkdir()
    file, text = APPLICATIONS[kind]

    def publish(revision: str) -> str:
        (app / file).write_text(text.replace("REVISION", revision))
        engine.program.with_environment(**account.environment)("bundle", app, "-o", dist, "--to", bucket)
        return f"{kind} {revision}"

    def deploy(source: Mapping[str, str], servers: list[int]) -> None:
        box = Running(engine.program, engine.name, free_port(), free_port())
        first = publish("one")
        try:
            engine.start(
                {**source, "PORT": str(box.port), "HEALTH_PORT": str(box.health)}, tmp_path / "tls.crt", servers
            )
            until(lambda: box.answers(first), 60)
            second = publish("two")
            engine.look_again()
            until(lambda: box.answers(second), 20)
        finally:
            engine.stop()

    publish("one")
    make_certificate(tmp_path)
    engine.load()
    try:
        words = ("--tls-cert", tmp_path / "tls.crt", "--tls-key", tmp_path / "tls.key")
        with served(dist, *words, BOXWRIGHT_BUNDLE_TOKEN=TOKEN) as url:
            secure = {"PACKAGE_ZIP_URL": f"{url}/latest", "PACKAGE_ZIP_CA": "/tls.crt", "PACKAGE_ZIP_TOKEN": TOKEN}
            deploy(secure, [_port(url)])
        deploy({"PACKAGE_ZIP_URL": f"{bucket}/latest", **account.environment}, [_port(account.address)])
    finally:
        engine.remove()
        engine.unload()


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


@pytest.mark.long
@pytest.mark.engine("lxc")
@pytest.mark.engine("lxd")
def test_a_system_container_of_lxc(base: Base, tmp_path: Path) -> None:
    """The same unit under plain LXC, on LXD's bridge; its bundles come from a directory that is mounted."""
    program = base("python", system=True)
    app, dist, name = tmp_path / "shop", tmp_path / "dist", f"bundle-lxc-{free_port()}"
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    app.mkdir()

    def publish(revision: str) -> str:
        (app / "app.py").write_text(PYTHON.replace("REVISION", revision))
        program("bundle", app, "-o", dist)
        return f"python {revision}"

    def answer() -> str:
        words = ["lxc-attach", "-n", name, "--", "curl", "-s", "http://127.0.0.1:8080/"]
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout

    first = publish("one")
    program("export", "base/python-system", f"lxc:{tmp_path / 'image'}", timeout=300)
    image = [f"--metadata={tmp_path}/image/meta.tar.xz", f"--fstree={tmp_path}/image/rootfs.tar.xz"]
    try:
        output("lxc-create", "-n", name, "-t", "local", "--", *image)
        settings = {
            "lxc.net.0.type": "veth",
            "lxc.net.0.link": "boxwrightbr0",
            "lxc.net.0.flags": "up",
            "lxc.apparmor.profile": "unconfined",
            "lxc.apparmor.allow_nesting": "0",
            "lxc.environment": "PACKAGE_ZIP_URL=file:///dist/latest",
            "lxc.mount.entry": f"{dist} dist none bind,ro,create=dir 0 0",
        }
        output("lxc-start", "-n", name, *(word for key, value in settings.items() for word in ("-s", f"{key}={value}")))
        until(lambda: answer() == first, 60)
        second = publish("two")
        output("lxc-attach", "-n", name, "--", "systemctl", "reload", "boxwright-bundle")
        until(lambda: answer() == second, 30)
    finally:
        subprocess.run(["lxc-stop", "-k", "-n", name], check=False, capture_output=True)
        subprocess.run(["lxc-destroy", "-f", "-n", name], check=False, capture_output=True)
