"""Base images: what they fetch when they start, what they refuse, and that the last good revision keeps serving."""

from __future__ import annotations

import hashlib
import io
import json
import os
import ssl
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT, Program, remove_tree
from tests.integration.conftest import free_port, until
from tests.integration.web import Page, Web, serving

pytestmark = pytest.mark.integration

NOW = {"PACKAGE_ZIP_PAUSE": "0.1", "PACKAGE_ZIP_RETRIES": "2"}


@pytest.fixture(scope="session")
def base_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("base-images")
    yield home
    remove_tree(home)


@pytest.fixture
def base(base_home: Path) -> Callable[[str], Program]:
    """Build a base image (once): `base("static")`."""

    def make(target: str) -> Program:
        program = Program(base_home)
        program("build", ROOT / "images/base", "-q", "--target", target, "-t", f"base/{target}", timeout=600)
        return program

    return make


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with serving(tmp_path) as server:
        yield server


class Running:
    """A container of a base image in the machine's network."""

    def __init__(self, program: Program, name: str, port: int, health: int) -> None:
        self.program, self.name, self.port, self.health = program, name, port, health

    def get(self, path: str = "/", port: int = 0) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port or self.port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def answers(self, text: str) -> bool:
        try:
            return self.get().strip() == text
        except OSError:
            return False

    def is_healthy(self) -> bool:
        try:
            return bool(json.loads(self.get("/healthz", self.health))["status"] == "ok")
        except OSError:
            return False

    def log(self) -> list[dict[str, str]]:
        lines = self.program("logs", self.name).out.splitlines() + self.program("logs", self.name).err.splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"time"')]

    def events(self, kind: str) -> list[str]:
        return [line["message"] for line in self.log() if line["event"] == kind]

    def look_again(self) -> None:
        """What `latest` names is to be fetched."""
        self.program("exec", self.name, "sh", "-c", "kill -HUP 1")


@contextmanager
def running(program: Program, image: str, *options: str | Path, **env: str) -> Iterator[Running]:
    port, health = free_port(), free_port()
    given = {"PORT": str(port), "HEALTH_PORT": str(health), **NOW, **env}
    words = [word for name, value in given.items() for word in ("-e", f"{name}={value}")]
    name = program("run", "-d", "--network", "host", *words, *options, image).out.strip()
    try:
        yield Running(program, name, port, health)
    finally:
        program("rm", "-f", name)


def zipped(files: dict[str, str | bytes], **changes: int) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = changes.get(name, 0o100644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, text)
    return data.getvalue()


GOOD = zipped({"index.html": "one\n"})


def offer(web: Web, data: bytes, name: str = "new.zip") -> None:
    web.pages[f"/{name}"] = Page(data)
    web.pages["/latest"] = Page(f"{name}\n".encode())


def patched(data: bytes, field: int, value: int, size: str = "<H") -> bytes:
    """A ZIP whose central directory and local header say something else of the first member."""
    changed = bytearray(data)
    central = data.index(b"PK\1\2")
    struct.pack_into(size, changed, central + field, value)
    struct.pack_into(size, changed, data.index(b"PK\3\4") + field - 2, value)
    return bytes(changed)


def bomb() -> bytes:
    """Two gigabytes of zeros that say they were ten bytes."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("zeros", "w") as member:
        for _ in range(64):
            member.write(bytes(1 << 20))
    return patched(data.getvalue(), 24, 10, "<I")


def twice() -> bytes:
    return zipped({"a": "1", "b": "2"}).replace(b"b", b"a")


ATTACKS: dict[str, Callable[[], bytes]] = {
    "a name that leads out": lambda: zipped({"../../tmp/out": "x"}),
    "an absolute name": lambda: zipped({"/tmp/out": "x"}),
    "a backslash": lambda: zipped({"..\\out": "x"}),
    "a line feed": lambda: zipped({"a\nb": "x"}),
    "an absolute link": lambda: zipped({"l": "/etc/passwd"}, l=0o120777),
    "a link that leads out": lambda: zipped({"l": "../../../../etc/passwd"}, l=0o120777),
    "a file through a link": lambda: zipped({"l": "/tmp", "l/out": "x"}, l=0o120777),
    "a device": lambda: zipped({"null": ""}, null=0o020666),
    "a name twice": twice,
    "an encrypted member": lambda: patched(GOOD, 8, 1),
    "a damaged member": lambda: GOOD[:45] + bytes([GOOD[45] ^ 0xFF]) + GOOD[46:],
    "a cut ZIP": lambda: GOOD[:-30],
    "no ZIP": lambda: b"<html>not found</html>",
    "nothing": lambda: b"",
    "an empty ZIP": lambda: zipped({}),
    "ten bytes that are many": bomb,
}


def test_what_is_refused_while_the_last_revision_keeps_serving(base: Callable[[str], Program], web: Web) -> None:
    program = base("static")
    offer(web, GOOD, "good.zip")
    limits = {"PACKAGE_ZIP_MAX_UNPACKED": "10000000", "PACKAGE_ZIP_MAX_SIZE": "1000000", "PACKAGE_ZIP_MAX_FILES": "10"}
    with running(program, "base/static", PACKAGE_ZIP_URL=f"{web.url}/latest", **limits) as box:
        until(lambda: box.answers("one"))
        until(box.is_healthy)
        count = 0
        for name, make in ATTACKS.items():
            offer(web, make())
            count = _refused(box, count, name)
        for name, page in {
            "404": Page(b"", 404),
            "too large": Page(os.urandom(1_200_000)),
            "said to be too large": Page(b"x", announced=10**10),
            "500 again and again": Page(b"", 500),
            "cut short again and again": Page(GOOD[:20], announced=len(GOOD)),
            "redirected to a file": Page(b"", 302, {"Location": "file:///etc/passwd"}),
            "redirected to metadata": Page(b"", 302, {"Location": "http://169.254.169.254/latest/"}),
            "to metadata as a number": Page(b"", 302, {"Location": "http://2852039166/latest/"}),
            "redirected in a circle": Page(b"", 302, {"Location": "/new.zip"}),
        }.items():
            web.pages["/new.zip"] = page
            count = _refused(box, count, name)
        web.pages["/latest"] = Page(b"../../etc/passwd\n")
        count = _refused(box, count, "a pointer that leads out")
        many = zipped({f"f{number}": "x" for number in range(11)})
        offer(web, many)
        _refused(box, count, "too many files")
        listed = program("exec", box.name, "sh", "-c", "ls /srv/bundle/releases; ls -A /srv/bundle /tmp").out.split()
        assert "tmp" not in listed
        assert "out" not in listed
        assert len([it for it in listed if len(it) == 64]) == 1, "nothing half unpacked"
        offer(web, zipped({"index.html": "two\n"}))
        box.look_again()
        until(lambda: box.answers("two"))


def _refused(box: Running, before: int, name: str) -> int:
    box.look_again()
    deadline = time.monotonic() + 20
    while len(box.events("refused")) <= before:
        assert time.monotonic() < deadline, f"{name} was not refused: {box.log()[-5:]}"
        time.sleep(0.05)
    assert len(box.events("refused")) == before + 1, f"{name}: {box.events('refused')[before:]}"
    assert box.get().strip() == "one", name
    return before + 1


def test_digest_signature_and_token(base: Callable[[str], Program], web: Web, tmp_path: Path) -> None:
    program = base("static")
    key, other = tmp_path / "key.pem", tmp_path / "other.pem"
    for path in (key, other):
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True)
    public = subprocess.run(
        ["openssl", "pkey", "-in", key, "-pubout"], capture_output=True, text=True, check=True
    ).stdout
    site, dist = tmp_path / "site", tmp_path / "dist"
    site.mkdir()
    (site / "index.html").write_text("signed\n")

    def published(sign: Path) -> str:
        path = Path(program("bundle", site, "-o", dist, "--sign", sign).out.split(" sha256:")[0])
        for file in dist.iterdir():
            web.pages[f"/{file.name}"] = Page(file.read_bytes())
        return path.name

    name = published(key)
    digest = hashlib.sha256((dist / name).read_bytes()).hexdigest()
    env = {"PACKAGE_ZIP_URL": f"{web.url}/{name}", "PACKAGE_ZIP_PUBKEY": public, "PACKAGE_ZIP_TOKEN": "s3cret"}
    with running(program, "base/static", PACKAGE_ZIP_SHA256=digest, **env) as box:
        until(lambda: box.answers("signed"))
        assert "s3cret" not in program("exec", box.name, "sh", "-c", "cat /proc/[0-9]*/cmdline").out
    assert {it.headers.get("Authorization") for it in web.requests} == {"Bearer s3cret"}
    for change, word in (
        ({"PACKAGE_ZIP_SHA256": "0" * 64}, "SHA-256"),
        ({"PACKAGE_ZIP_SHA256": "../../etc"}, "SHA-256"),
        ({"PACKAGE_ZIP_URL": "gopher://x/y.zip"}, "kind"),
        ({"PACKAGE_ZIP_URL": ""}, "not set"),
    ):
        assert word in first_refusal(program, {**env, **change})
    web.pages[f"/{name}.json"] = Page(web.pages[f"/{name}.json"].body.replace(b'"files"', b'"Files"'))
    assert "signature" in first_refusal(program, env)
    published(other)
    assert "signature" in first_refusal(program, env)
    published(key)
    web.pages["/renamed.zip"] = web.pages[f"/{name}"]
    for suffix in (".json", ".json.sig"):
        web.pages[f"/renamed.zip{suffix}"] = web.pages[f"/{name}{suffix}"]
    assert "manifest" in first_refusal(program, {**env, "PACKAGE_ZIP_URL": f"{web.url}/renamed.zip"}), "an older one"


def first_refusal(program: Program, env: dict[str, str]) -> str:
    """Start one that can't start; returns why."""
    words = [word for name, value in {**env, **NOW}.items() for word in ("-e", f"{name}={value}")]
    done = program("run", "--rm", "--network", "host", *words, "base/static", status=1)
    lines = [json.loads(line) for line in (done.out + done.err).splitlines() if line.startswith('{"time"')]
    assert [line["event"] for line in lines][-1] == "failed"
    return str(next(line["message"] for line in lines if line["event"] == "refused"))


def test_a_download_is_carried_on_and_times_are_bounded(base: Callable[[str], Program], web: Web) -> None:
    program = base("static")
    body = zipped({"index.html": "resumed\n", "random": os.urandom(300_000)})

    web.pages["/b.zip"] = Page(body[:100_000], headers={"ETag": '"1"', "Accept-Ranges": "bytes"}, announced=len(body))

    def mend() -> None:
        until(lambda: web.asked("/b.zip"))
        rest = {"ETag": '"1"', "Content-Range": f"bytes 100000-{len(body) - 1}/{len(body)}"}
        web.pages["/b.zip"] = Page(body[100_000:], 206, rest)

    mender = threading.Thread(target=mend)
    mender.start()
    with running(program, "base/static", PACKAGE_ZIP_URL=f"{web.url}/b.zip", PACKAGE_ZIP_PAUSE="1") as box:
        until(lambda: box.answers("resumed"), 20)
        assert box.events("retry")
    mender.join()
    asked = [request.headers.get("Range") for request in web.requests]
    assert asked == [None, "bytes=100000-"]
    stalled = threading.Event()
    web.pages["/slow.zip"] = Page(b"P", announced=100, wait=stalled)
    started = time.monotonic()
    env = {"PACKAGE_ZIP_URL": f"{web.url}/slow.zip", "PACKAGE_ZIP_TIMEOUT": "1"}
    assert "can't be fetched" in first_refusal(program, env)
    stalled.set()
    assert time.monotonic() - started < 20


def test_hooks_and_a_program_that_fails(base: Callable[[str], Program], web: Web) -> None:
    program = base("generic")

    def made(start: str, install: str = "exit 0") -> bytes:
        return zipped(
            {
                ".bundle/start": f"#!/bin/sh\n{start}\n",
                ".bundle/install": f"#!/bin/sh\n{install}\n",
                "index.html": "x",
            },
            **{".bundle/start": 0o100755, ".bundle/install": 0o100755},
        )

    serve = 'mkdir -p /tmp/w && printf "%s\\n" {0} > /tmp/w/index.html && exec busybox httpd -f -p $PORT -h /tmp/w'
    offer(web, made(serve.format("$(cat built)"), "echo installed > built; id -un >&2"), "one.zip")
    with running(program, "base/generic", PACKAGE_ZIP_URL=f"{web.url}/latest") as box:
        until(lambda: box.answers("installed"))
        assert program("exec", box.name, "sh", "-c", "stat -c %U /srv/bundle/current/built").out.strip() == "app"
        offer(web, made("exec sleep 100", "exit 3"), "two.zip")
        box.look_again()
        until(lambda: box.events("refused"))
        assert "exit status 3" in box.events("refused")[0]
        assert box.answers("installed")
        offer(web, made("exit 7"), "three.zip")
        box.look_again()
        until(lambda: box.events("taken-back"))
        until(lambda: box.answers("installed"))
        program("stop", box.name)
        assert [line["message"] for line in box.log() if line["event"] == "ended"] == ["exit status 143"]


def test_signals_reach_the_program_and_its_status_comes_back(base: Callable[[str], Program], web: Web) -> None:
    program = base("static")
    offer(web, GOOD)
    words = ["-e", f"PACKAGE_ZIP_URL={web.url}/latest", "-e", f"HEALTH_PORT={free_port()}", "-e", f"PORT={free_port()}"]
    script = "trap 'exit 42' TERM; echo waiting; while :; do sleep 0.1; done"
    name = program("run", "-d", "--network", "host", *words, "base/static", "sh", "-c", script).out.strip()
    try:
        until(lambda: "waiting" in program("logs", name).out)
        program("stop", name)
        assert "exited 42" in program("ps", "-a").out
    finally:
        program("rm", "-f", name)


@contextmanager
def https(directory: Path, work: Path) -> Iterator[str]:
    """Python's own web server with TLS and a certificate of its own."""
    import functools
    import http.server

    words = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(work / "tls.key"), "-out", str(work / "tls.crt")]
    subprocess.run(["openssl", "req", *words, *names, *files], check=True, capture_output=True)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            pass

    handler = functools.partial(Quiet, directory=str(directory))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    settings = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    settings.load_cert_chain(work / "tls.crt", work / "tls.key")
    server.socket = settings.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


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
PHP = '<?php echo "php REVISION";\n'
APPLICATIONS = {"python": ("app.py", PYTHON), "php": ("index.php", PHP)}


@pytest.mark.parametrize("kind", APPLICATIONS)
@pytest.mark.engine("podman")
def test_two_revisions_over_https(kind: str, base: Callable[[str], Program], tmp_path: Path) -> None:
    """Natively, and the same image unchanged in podman."""
    program = base(kind)
    file, text = APPLICATIONS[kind]
    site, dist = tmp_path / "shop", tmp_path / "dist"
    site.mkdir()

    def publish(revision: str) -> None:
        (site / file).write_text(text.replace("REVISION", revision))
        program("bundle", site, "-o", dist)

    publish("one")
    with https(dist, tmp_path) as url:
        certificate = tmp_path / "tls.crt"
        env = {"PACKAGE_ZIP_URL": f"{url}/latest", "PACKAGE_ZIP_CA": "/tls.crt"}
        with running(program, f"base/{kind}", "-v", f"{certificate}:/tls.crt:ro", **env) as box:
            until(lambda: box.answers(f"{kind} one"), 20)
            publish("two")
            box.look_again()
            until(lambda: box.answers(f"{kind} two"), 20)
        program("export", f"base/{kind}", "--load", "podman", timeout=300)
        port, health = free_port(), free_port()
        given = {**env, "PORT": str(port), "HEALTH_PORT": str(health)}
        words = [word for name, value in given.items() for word in ("-e", f"{name}={value}")]
        limits = ["--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"]
        image = f"localhost/base/{kind}:latest"
        command = [
            "podman",
            "run",
            "-d",
            *limits,
            "--network",
            "host",
            "-v",
            f"{certificate}:/tls.crt:ro",
            *words,
            image,
        ]
        container = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        try:
            until(lambda: Running(program, "", port, health).answers(f"{kind} two"), 60)
        finally:
            subprocess.run(["podman", "rm", "-f", "-t", "0", container], check=True, capture_output=True)
            subprocess.run(["podman", "rmi", image], check=True, capture_output=True)


def test_a_signal_to_end_ends_what_is_still_fetching(base: Callable[[str], Program], web: Web) -> None:
    program = base("static")
    held = threading.Event()
    words = ["--network", "host", "--rm", "--name", "ending", "-e", f"PORT={free_port()}", "-e", "HEALTH_PORT=0"]
    env = {"PACKAGE_ZIP_URL": f"{web.url}/latest", "PACKAGE_ZIP_RETRIES": "9", "PACKAGE_ZIP_PAUSE": "60"}
    words += [word for name, value in env.items() for word in ("-e", f"{name}={value}")]
    try:
        for page in (Page(b"", 500), Page(b"P", announced=100, wait=held)):
            web.pages["/latest"] = page
            web.requests.clear()
            with program.start("run", *words, "base/static") as process:
                until(lambda: web.asked("/latest"), 20)
                time.sleep(0.2)
                program("stop", "ending")
                assert process.wait(20) == 143
    finally:
        held.set()


def test_developing_with_a_bundle(base: Callable[[str], Program], tmp_path: Path) -> None:
    program = base("static")
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("one\n")
    port, health = free_port(), free_port()
    words = ["-e", f"PORT={port}", "-e", f"HEALTH_PORT={health}", "--network", "host", "--rm", "--name", "develop"]
    with program.start("run", *words, "--bundle", site, "--watch", "base/static") as process:
        box = Running(program, "develop", port, health)
        until(lambda: box.answers("one"), 20)
        (site / "index.html").write_text("two\n")
        until(lambda: box.answers("two"), 10)
        os.mkfifo(site / "fifo")  # can't be bundled: said, and the last one stays
        time.sleep(0.5)
        os.unlink(site / "fifo")
        assert box.answers("two")
        program("stop", "develop")
        assert process.wait(20) == 143
    assert program("ps", "-aq").out == ""
    assert "usage.watch" in program("run", "--watch", "base/static", status=2).err
    assert "run.bundle" in program("run", "--bundle", tmp_path / "no", "base/static", status=2).err
