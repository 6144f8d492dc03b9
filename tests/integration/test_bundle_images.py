"""Base images: what they fetch when they start, what they refuse, and that the last good revision keeps serving."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import subprocess
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.integration.bundles import NOW, Running, running
from tests.integration.conftest import Base, free_port, until
from tests.integration.servers import s3_account, s3_client
from tests.integration.web import Page, Web, serving

pytestmark = pytest.mark.integration


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with serving(tmp_path) as server:
        yield server


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


def zeros() -> bytes:
    """Ten gigabytes of zeros as ZIP64 has them, a thousandth of that compressed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block, count = 1 << 24, 600
    # After a full flush a block does not depend on those before it: one is made, and repeated.
    piece = packer.compress(bytes(block)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed, size = piece * count + packer.flush(), block * count
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        info = zipfile.ZipInfo("zeros")
        info.external_attr = 0o100644 << 16
        with archive.open(info, "w", force_zip64=True) as member:
            member.write(packed)
        info.compress_type, info.file_size = zipfile.ZIP_DEFLATED, size
    whole = bytearray(data.getvalue())
    struct.pack_into("<H", whole, 8, zipfile.ZIP_DEFLATED)
    struct.pack_into("<QQ", whole, 30 + len("zeros") + 4, size, len(packed))
    return bytes(whole)


def bomb() -> bytes:
    """Two hundred megabytes of zeros that say they were ten bytes."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("zeros", "w") as member:
        for _ in range(12):
            member.write(bytes(1 << 24))
    return patched(data.getvalue(), 24, 10, "<I")


def two_names() -> bytes:
    """The directory at the end says another name than what lies before the member, which is what readers take."""
    return zipped({"aa/out": "x"}).replace(b"aa/out", b"../out", 1)


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
    "a name that leads out, at the member alone": two_names,
    "a disk": lambda: zipped({"sda": ""}, sda=0o060666),
    "a socket": lambda: zipped({"s": ""}, s=0o140666),
    "a device": lambda: zipped({"null": ""}, null=0o020666),
    "a name twice": twice,
    "an encrypted member": lambda: patched(GOOD, 8, 1),
    "a damaged member": lambda: GOOD[:45] + bytes([GOOD[45] ^ 0xFF]) + GOOD[46:],
    "a cut ZIP": lambda: GOOD[:-30],
    "no ZIP": lambda: b"<html>not found</html>",
    "nothing": lambda: b"",
    "an empty ZIP": lambda: zipped({}),
    "ten gigabytes of zeros": zeros,
    "ten bytes that are many": bomb,
}


@pytest.mark.long
def test_what_is_refused_while_the_last_revision_keeps_serving(base: Base, web: Web) -> None:
    program = base("static")
    offer(web, GOOD, "good.zip")
    limits = {
        "PACKAGE_ZIP_MAX_UNPACKED": "100000000",
        "PACKAGE_ZIP_MAX_SIZE": "12000000",
        "PACKAGE_ZIP_MAX_FILES": "10",
        "PACKAGE_ZIP_RETRIES": "1",
        "PACKAGE_ZIP_TIMEOUT": "2",
    }
    with running(program, "base/static", PACKAGE_ZIP_URL=f"{web.url}/latest", **limits) as box:
        until(lambda: box.answers("one"))
        until(box.is_healthy)
        count = 0
        for name, make in ATTACKS.items():
            offer(web, make())
            count = _refused(box, count, name)
        for name, page in {
            "404": Page(b"", 404),
            "too large": Page(os.urandom(13_000_000)),
            "said to be too large": Page(b"x", announced=10**10),
            "endless": Page(b"PK", endless=0),
            "slow and endless": Page(b"PK", endless=0.5),
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
        assert not program("exec", box.name, "sh", "-c", "command -v python3", status=None).out, "nor is it needed"
        offer(web, zipped({"index.html": "two\n"}))
        box.look_again()
        until(lambda: box.answers("two"))


def _refused(box: Running, before: int, name: str) -> int:
    box.look_again()
    deadline = time.monotonic() + 20
    while len(said := box.events("refused")) <= before:
        assert time.monotonic() < deadline, f"{name} was not refused: {box.log()[-5:]}"
        time.sleep(0.05)
    assert len(said) == before + 1, f"{name}: {said[before:]}"
    assert box.get().strip() == "one", name
    return before + 1


def test_digest_signature_and_token(base: Base, web: Web, tmp_path: Path) -> None:
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


def test_a_wrong_digest_or_signature_leaves_the_last_revision(base: Base, web: Web, tmp_path: Path) -> None:
    program = base("static")
    key, other = tmp_path / "key.pem", tmp_path / "other.pem"
    for path in (key, other):
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True)
    words = ["openssl", "pkey", "-in", str(key), "-pubout"]
    public = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    site, dist = tmp_path / "site", tmp_path / "dist"
    site.mkdir()

    def publish(text: str, sign: Path) -> None:
        (site / "index.html").write_text(f"{text}\n")
        program("bundle", site, "-o", dist, "--sign", sign)
        for file in dist.iterdir():
            web.pages[f"/{file.name}"] = Page(file.read_bytes())

    publish("one", key)
    kept = ["-v", "kept:/srv/bundle"]
    env = {"PACKAGE_ZIP_URL": f"{web.url}/latest", "PACKAGE_ZIP_PUBKEY": public}
    with running(program, "base/static", *kept, **env) as box:
        until(lambda: box.answers("one"))
        publish("two", other)
        assert "signature" in refused_next(box)
        web.pages["/latest"] = Page(b"unsigned.zip\n")
        web.pages["/unsigned.zip"] = Page(zipped({"index.html": "three\n"}))
        assert "404" in refused_next(box), "it has no manifest at all"
        publish("four", key)
        box.look_again()
        until(lambda: box.answers("four"))
    # A container of the same volume that is to run something else: what it fetches is not what was asked for.
    with running(program, "base/static", *kept, PACKAGE_ZIP_SHA256="0" * 64, **env) as box:
        until(lambda: box.answers("four"))
        assert "SHA-256" in box.events("refused")[0]
        assert box.events("kept")


def refused_next(box: Running) -> str:
    """Look again, and be refused."""
    before = len(box.events("refused"))
    serves = box.get()
    box.look_again()
    until(lambda: len(box.events("refused")) > before)
    assert box.get() == serves
    return box.events("refused")[-1]


ROLES = "/latest/meta-data/iam/security-credentials/"


def offer_credentials(web: Web, key: str, secret: str) -> None:
    """As a container's endpoint, the instance metadata service and the security token service give them."""
    found = {"AccessKeyId": key, "SecretAccessKey": secret}
    web.pages["/container"] = Page(json.dumps({**found, "Expiration": "2099-01-01T00:00:00Z"}).encode())
    web.pages["/latest/api/token"] = Page(b"session")
    web.pages[ROLES] = Page(b"role\n")
    web.pages[f"{ROLES}role"] = Page(json.dumps({"Code": "Success", **found}, indent=2).encode())
    web.pages["/latest/meta-data/placement/region"] = Page(b"us-east-1")
    tags = "".join(f"<{name}>{value}</{name}>" for name, value in found.items())
    web.pages["/"] = Page(f"<R><Credentials>{tags}<SessionToken></SessionToken></Credentials></R>".encode())


def test_a_bucket_with_the_credentials_of_the_instance(base: Base, web: Web, tmp_path: Path) -> None:
    """From a container's endpoint, for a role's token, from the instance metadata service (IMDSv2); also new ones."""
    program = base("static")
    site, token = tmp_path / "site", tmp_path / "token"
    site.mkdir()
    token.write_text("a+token")
    with s3_account() as account:
        publisher = program.with_environment(**account.environment)

        def publish(text: str) -> None:
            (site / "index.html").write_text(f"{text}\n")
            publisher("bundle", site, "--to", "s3://bucket/deep/dist")

        publish("one")
        key, secret = account.environment["AWS_ACCESS_KEY_ID"], account.environment["AWS_SECRET_ACCESS_KEY"]
        offer_credentials(web, key, secret)
        common = {"PACKAGE_ZIP_URL": "s3://bucket/deep/dist/latest", "AWS_ENDPOINT_URL": account.address}
        container = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{web.url}/container",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "Basic abc",
        }
        role = {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token", "AWS_ROLE_ARN": "arn:x", "AWS_ENDPOINT_URL_STS": web.url}
        instance = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": web.url}
        for credentials in (container, role):
            with running(program, "base/static", "-v", f"{token}:/token:ro", **common, **credentials) as box:
                until(lambda: box.answers("one"))
                assert secret not in program("exec", box.name, "sh", "-c", "cat /proc/[0-9]*/cmdline").out
        with running(program, "base/static", **common, **instance) as box:
            until(lambda: box.answers("one"))
            iam = s3_client(account.environment, "iam")
            made = iam.create_access_key(UserName="user")["AccessKey"]
            publish("two")
            iam.delete_access_key(UserName="user", AccessKeyId=key)
            assert "403" in refused_next(box)
            offer_credentials(web, made["AccessKeyId"], made["SecretAccessKey"])
            box.look_again()
            until(lambda: box.answers("two"))
        said = {request.path: request for request in web.requests}
        assert said["/container"].headers["Authorization"] == "Basic abc"
        assert said[f"{ROLES}role"].headers["X-aws-ec2-metadata-token"] == "session"
        assert b"WebIdentityToken=a%2Btoken" in said["/"].body
        missing = {**common, "PACKAGE_ZIP_URL": "s3://bucket/deep/nothing.zip", **instance}
        assert "404" in first_refusal(program, missing)
        web.pages["/container"] = Page(b"", 404)
        assert "credentials" in first_refusal(program, {**common, **container})


def first_refusal(program: Program, env: dict[str, str]) -> str:
    """Start one that can't start; returns why."""
    words = [word for name, value in {**env, **NOW}.items() for word in ("-e", f"{name}={value}")]
    done = program("run", "--rm", "--network", "host", *words, "base/static", status=1)
    lines = [json.loads(line) for line in (done.out + done.err).splitlines() if line.startswith('{"time"')]
    assert [line["event"] for line in lines][-1] == "failed"
    return str(next(line["message"] for line in lines if line["event"] == "refused"))


def test_a_download_is_carried_on_and_times_are_bounded(base: Base, web: Web) -> None:
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


def test_hooks_and_a_program_that_fails(base: Base, web: Web) -> None:
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


def test_signals_reach_the_program_and_its_status_comes_back(base: Base, web: Web) -> None:
    program = base("static")
    offer(web, GOOD)
    words = ["-e", f"PACKAGE_ZIP_URL={web.url}/latest", "-e", f"HEALTH_PORT={free_port()}", "-e", f"PORT={free_port()}"]
    script = "trap 'exit 42' TERM; echo waiting; while :; do sleep 0.1; done"
    name = program("run", "-d", "--network", "host", *words, "base/static", "sh", "-c", script).out.strip()
    try:
        until(lambda: "waiting" in program("logs", name).out)
        program("stop", name)
        assert "exited 42" in program("ps", "-a").out
        program("rm", name)
        # Stopped right after a new revision: that is no failure of it.
        name = program("run", "-d", "--network", "host", *words, "base/static", "sh", "-c", "sleep 100").out.strip()
        box = Running(program, name, 0, 0)
        until(lambda: box.events("started"))
        offer(web, zipped({"index.html": "two\n"}))
        box.look_again()
        until(lambda: len(box.events("started")) == 2)
        program("stop", name)
        assert "exited 143" in program("ps", "-a").out
        assert not box.events("taken-back")
    finally:
        program("rm", "-f", name)


def test_a_signal_to_end_ends_what_is_still_fetching(base: Base, web: Web) -> None:
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


def test_developing_with_a_bundle(base: Base, tmp_path: Path) -> None:
    program = base("static")
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("one\n")
    port, health = free_port(), free_port()
    words = ["-e", f"PORT={port}", "-e", f"HEALTH_PORT={health}", "--network", "host", "--rm", "--name", "develop"]
    with program.start("run", "base/static", *words, "--bundle", site, "--watch") as process:
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
    assert "develop" not in program("ps", "-aq").out.split()
    assert "usage.watch" in program("run", "--watch", "base/static", status=2).err
    assert "run.bundle" in program("run", "--bundle", tmp_path / "no", "base/static", status=2).err
