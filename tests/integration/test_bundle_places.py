"""Bundles elsewhere: what is uploaded, by several at once too, who may read it, and the web server for them."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Program
from tests.integration.bundles import make_certificate, served
from tests.integration.conftest import free_port, until
from tests.integration.servers import Account, s3_account, s3_client, s3_server, ssh_server
from tests.integration.web import Page, serving

pytestmark = pytest.mark.integration

TOKEN = "a-token-of-some-length"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    place = tmp_path / "shop"
    place.mkdir()
    (place / "index.html").write_text("one\n")
    return place


@pytest.fixture
def account() -> Iterator[Account]:
    with s3_account() as found:
        yield found


class Elsewhere:
    """A place as this program is told of it, and as others read it."""

    def __init__(self, address: str, program: Program, path: Path | None = None) -> None:
        self.address, self.program, self.path = address, program, path

    def bundle(self, app: Path, *words: str | Path, status: int = 0) -> str:
        done = self.program("bundle", app, "--to", self.address, *words, status=status)
        return (done.out if status == 0 else done.err).strip()

    def read(self, name: str) -> bytes:
        if self.path is not None:
            return (self.path / name).read_bytes()
        body = self._client().get_object(Bucket="bucket", Key=f"{self.prefix}/{name}")["Body"].read()
        assert isinstance(body, bytes)
        return body

    def write(self, name: str, data: bytes) -> None:
        if self.path is not None:
            (self.path / name).write_bytes(data)
        else:
            self._client().put_object(Bucket="bucket", Key=f"{self.prefix}/{name}", Body=data)

    def names(self) -> set[str]:
        if self.path is not None:
            return {it.name for it in self.path.iterdir() if it.is_file()}
        listed = self._client().list_objects_v2(Bucket="bucket", Prefix=f"{self.prefix}/")
        return {str(it["Key"]).rpartition("/")[2] for it in listed.get("Contents", [])}

    @property
    def prefix(self) -> str:
        return self.address.removeprefix("s3://bucket/")

    def index(self) -> list[str]:
        return [it["file"] for it in json.loads(self.read("index.json"))["bundles"]]

    def _client(self) -> Any:
        return s3_client(self.program.environment)


@pytest.fixture(params=["directory", pytest.param("ssh", marks=pytest.mark.engine("ssh")), "s3"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Elsewhere]:
    store, place = tmp_path / "store", tmp_path / "place"
    if request.param == "directory":
        yield Elsewhere(str(place), Program(store), place)
    elif request.param == "ssh":
        with ssh_server(tmp_path / "ssh", "deployhost") as environment:
            yield Elsewhere(f"ssh://deployhost{place}", Program(store, environment), place)
    else:
        account: Account = request.getfixturevalue("account")
        yield Elsewhere(f"s3://bucket/{tmp_path.name}", Program(store, account.environment))


def test_what_is_uploaded_and_kept(elsewhere: Elsewhere, app: Path, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    place, _, digest = elsewhere.bundle(app, "--sign", key).partition(" sha256:")
    name = place.rpartition("/")[2]
    assert place == f"{elsewhere.address}/{name}"
    assert hashlib.sha256(elsewhere.read(name)).hexdigest() == digest
    beside = {name, f"{name}.sha256", f"{name}.json", f"{name}.json.sig"}
    assert elsewhere.names() == {*beside, "index.json", "latest"}
    assert elsewhere.read("latest") == f"{name}\n".encode()
    manifest = json.loads(elsewhere.read(f"{name}.json"))
    assert json.loads(elsewhere.read("index.json")) == {"version": 1, "bundles": [manifest]}
    assert not (tmp_path / "dist").exists()

    before = elsewhere.index()
    assert elsewhere.bundle(app, "--sign", key) == f"{place} sha256:{digest}", "the same once more"
    assert elsewhere.index() == before
    later = []
    for number in range(3):
        (app / "index.html").write_text(f"{number}\n")
        later.append(elsewhere.bundle(app, "--keep", "2").partition(" ")[0].rpartition("/")[2])
    assert elsewhere.index() == later[1:]
    assert elsewhere.read("latest") == f"{later[2]}\n".encode()
    assert {it for it in elsewhere.names() if it.endswith(".zip")} == set(later[1:])
    # One from before, bundled again, is the newest: what somebody rolls back to.
    (app / "index.html").write_text("1\n")
    elsewhere.bundle(app)
    assert elsewhere.index() == [later[2], later[1]]
    assert elsewhere.read("latest") == f"{later[1]}\n".encode()


def test_what_is_not_uploaded(elsewhere: Elsewhere, app: Path) -> None:
    name = elsewhere.bundle(app).partition(" ")[0].rpartition("/")[2]
    assert "bundle.project" in elsewhere.bundle(app, "--name", "other", status=1)
    # Another content of one revision.
    other = json.loads(elsewhere.read(f"{name}.json")) | {"sha256": "0" * 64}
    elsewhere.write(f"{name}.json", json.dumps(other).encode())
    assert "bundle.other" in elsewhere.bundle(app, status=1)
    # A killed upload's ZIP without a manifest.
    (app / "index.html").write_text("two\n")
    second = (
        elsewhere.bundle(app, "--to", str(app.parent / "aside")).splitlines()[1].partition(" ")[0].rpartition("/")[2]
    )
    (app / "index.html").write_text("three\n")
    third = elsewhere.program("bundle", app, "-o", app.parent / "made").out.partition(" ")[0].rpartition("/")[2]
    elsewhere.write(third, b"PK half")
    assert "bundle.unfinished" in elsewhere.bundle(app, status=1)
    # A damaged index is made anew from the manifests.
    elsewhere.write("index.json", b"{}")
    (app / "index.html").write_text("four\n")
    fourth = elsewhere.bundle(app).partition(" ")[0].rpartition("/")[2]
    assert sorted(elsewhere.index()) == sorted([name, second, fourth])
    elsewhere.write(f"{second}.json", b"nonsense")
    elsewhere.write("index.json", b"{}")
    assert "bundle.manifest" in elsewhere.bundle(app, status=1)


def test_uploaders_at_once_lose_nothing(elsewhere: Elsewhere, tmp_path: Path) -> None:
    count = 6
    started = []
    for number in range(count):
        place = tmp_path / f"{number}" / "shop"
        place.mkdir(parents=True)
        (place / "index.html").write_text(f"{number}\n")
        started.append(elsewhere.program.start("bundle", place, "--to", elsewhere.address))
    made = set()
    for process in started:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        made.add(out.partition(" ")[0].rpartition("/")[2])
    assert len(made) == count
    assert set(elsewhere.index()) == made
    assert elsewhere.read("latest").decode().strip() in made


def test_what_a_killed_upload_left(app: Path, tmp_path: Path, boxwright: Program) -> None:
    """Killed at any moment it leaves at most files that the next one brings in, or that --keep removes in a day."""
    place = tmp_path / "place"
    boxwright = boxwright.with_environment(TMPDIR=str(tmp_path))
    boxwright("bundle", app, "--to", place)
    for number in range(8):
        (app / "index.html").write_text(f"{number}\n")
        with boxwright.start("bundle", app, "--to", place) as process:
            time.sleep(0.1 + number * 0.03)
            process.kill()
    (place / "shop-old.zip").write_bytes(b"PK half")
    (place / "shop-new.zip").write_bytes(b"PK half")
    os.utime(place / "shop-old.zip", (1, 1))
    (app / "index.html").write_text("last\n")
    boxwright("bundle", app, "--to", place, "--keep", "100")
    listed = {it["file"]: it["sha256"] for it in json.loads((place / "index.json").read_text())["bundles"]}
    assert set(listed) == {it.name.removesuffix(".json") for it in place.glob("*.zip.json")}
    for name, digest in listed.items():
        assert hashlib.sha256((place / name).read_bytes()).hexdigest() == digest
    assert not (place / "shop-old.zip").exists()
    assert (place / "shop-new.zip").exists()


def test_a_bucket_is_private_and_presigned_addresses_open_it(app: Path, tmp_path: Path) -> None:
    """Moto refuses who has no address that looks signed; whether it is signed rightly AWS's own library says."""
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    key = tmp_path / "key.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    with s3_server() as address:
        program = Program(tmp_path / "store", {**keys, "AWS_ENDPOINT_URL": address})
        out = program("bundle", app, "--to", "s3://bucket/private", "--sign", key, "--presign", "1h").out
        found = dict(line.split("=", 1) for line in out.splitlines())
        url, digest = found.pop("PACKAGE_ZIP_URL"), found.pop("PACKAGE_ZIP_SHA256")
        assert set(found) == {"PACKAGE_ZIP_MANIFEST_URL", "PACKAGE_ZIP_SIGNATURE_URL"}
        for signed in (url, *found.values()):
            assert "X-Amz-Expires=3600&" in signed
            assert signed.partition("&X-Amz-Signature=")[2] == signature_of(signed, keys)
        assert hashlib.sha256(fetched(url)).hexdigest() == digest
        assert json.loads(fetched(found["PACKAGE_ZIP_MANIFEST_URL"]))["sha256"] == digest
        assert len(fetched(found["PACKAGE_ZIP_SIGNATURE_URL"])) == 64
        assert status(url.partition("?")[0]) == 403


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return bytes(answer.read())


def signature_of(url: str, keys: dict[str, str]) -> str:
    """As botocore signs what stands before the signature."""
    from botocore.auth import S3SigV4QueryAuth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest("GET", url.partition("&X-Amz-Signature=")[0])
    request.context["timestamp"] = url.partition("X-Amz-Date=")[2].partition("&")[0]
    credentials = Credentials(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"])
    signer = S3SigV4QueryAuth(credentials, "s3", "us-east-1")
    return str(signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request))


def test_wrong_use_of_places(account: Account, app: Path, tmp_path: Path) -> None:
    bucket: list[str | Path] = ["bundle", app, "--to", "s3://bucket/private"]
    wrong = Program(tmp_path / "other", {**account.environment, "AWS_SECRET_ACCESS_KEY": "wrong"})
    assert "repository.s3" in wrong(*bucket, status=5).err
    program = Program(tmp_path / "store", account.environment)
    for given, code in (("8d", "usage.presign"), ("1", "usage.time"), ("0m", "usage.presign")):
        assert code in program(*bucket, "--presign", given, status=2).err
    assert "usage.presign" in program("bundle", app, "--to", tmp_path / "d", "--presign", "1h", status=2).err
    assert "bundle.place" in program("bundle", app, "--to", "ftp://host/x", status=2).err
    unsigned = Program(tmp_path / "third", {"AWS_ENDPOINT_URL": account.address, "HOME": str(tmp_path)})
    assert "repository.s3" in unsigned(*bucket, status=5).err
    assert not list(tmp_path.glob("boxwright-bundle-*"))


ROLES = "/latest/meta-data/iam/security-credentials/"


def test_the_machines_own_credentials_upload(account: Account, app: Path, tmp_path: Path) -> None:
    """Of a role for which a token stands, a container's, an instance's (IMDSv2), with none in the environment."""
    keys = {"AccessKeyId": account.environment["AWS_ACCESS_KEY_ID"]}
    keys["SecretAccessKey"] = account.environment["AWS_SECRET_ACCESS_KEY"]
    until = "2099-01-01T00:00:00Z"
    (tmp_path / "token").write_text("a+token\n")
    common = {"AWS_ENDPOINT_URL": account.address, "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": ""}
    with serving(tmp_path / "git") as web:
        web.pages["/container"] = Page(json.dumps({**keys, "Expiration": until}).encode())
        web.pages["/latest/api/token"] = Page(b"session")
        web.pages[ROLES] = Page(b"role\n")
        web.pages[f"{ROLES}role"] = Page(json.dumps({"Code": "Success", **keys, "Expiration": until}).encode())
        web.pages["/latest/meta-data/placement/region"] = Page(b"us-east-1")
        tags = "".join(f"<{name}>{value}</{name}>" for name, value in keys.items())
        web.pages["/"] = Page(f"<R><Credentials>{tags}<Expiration>{until}</Expiration></Credentials></R>".encode())
        container = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{web.url}/container",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token"),
        }
        role = {
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
            "AWS_ROLE_ARN": "arn:x",
            "AWS_ENDPOINT_URL_STS": web.url,
        }
        instance = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": web.url}
        for number, given in enumerate((container, role, instance)):
            program = Program(tmp_path / f"machine-{number}", {**common, **given})
            words = ("bundle", app, "--to", f"s3://bucket/own-{number}", "--presign", "1h")
            url = program(*words).out.splitlines()[0].partition("=")[2]
            assert f"X-Amz-Credential={keys['AccessKeyId']}%2F" in url
            s3_client(account.environment).head_object(Bucket="bucket", Key=f"own-{number}/latest")
        said = {request.path: request for request in web.requests}
        assert said["/container"].headers["Authorization"] == "a+token"
        token = {name.lower(): value for name, value in said[f"{ROLES}role"].headers.items()}[
            "x-aws-ec2-metadata-token"
        ]
        assert token == "session"
        assert b"WebIdentityToken=a%2Btoken" in said["/"].body
        # What is there and gives none is an error, not an upload without a signature.
        for page in (Page(b"{}"), Page(b"<html>"), Page(b"", 404), Page(b"", 302, {"Location": f"{web.url}/{ROLES}"})):
            web.pages["/container"] = web.pages["/"] = page
            for given in (container, role):
                failed = Program(tmp_path / "none", {**common, **given})(
                    "bundle", app, "--to", "s3://bucket/x", status=5
                )
                assert "repository.credentials" in failed.err
        web.pages[ROLES] = Page(b"<html>\xff")
        refused = Program(tmp_path / "none", {**common, **instance})("bundle", app, "--to", "s3://bucket/x", status=5)
        assert "repository.s3" in refused.err


# boxwright bundle serve -----------------------------------------------------------------------------------------------


def status(url: str, context: ssl.SSLContext | None = None, **headers: str) -> int:
    request = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=5, context=context) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_ranges_resume_and_nothing_else_is_served(app: Path, tmp_path: Path, boxwright: Program) -> None:
    (app / "random").write_bytes(os.urandom(300_000))
    name = boxwright("bundle", app, "-o", tmp_path / "dist").out.partition(" ")[0].rpartition("/")[2]
    data = (tmp_path / "dist" / name).read_bytes()
    (tmp_path / "dist/.hidden").write_text("x")
    (tmp_path / "outside").write_text("x")
    (tmp_path / "dist/link").symlink_to("../outside")
    with served(tmp_path / "dist") as url:
        part = tmp_path / "part"
        part.write_bytes(data[:100_000])
        subprocess.run(["curl", "-sf", "-C", "-", "-o", part, f"{url}/{name}"], check=True)
        assert part.read_bytes() == data
        with urllib.request.urlopen(f"{url}/{name}") as answer:
            tag = answer.headers["ETag"]
        assert status(f"{url}/{name}", Range="bytes=5-", If_Range=tag) == 206
        assert status(f"{url}/{name}", Range="bytes=5-", If_Range='"another"') == 200
        assert status(f"{url}/{name}", Range=f"bytes={len(data)}-") == 416
        for path in ("", ".hidden", "link", "../outside", "%2e%2e/outside", "nothing"):
            assert status(f"{url}/{path}") == 404, path


def test_tokens_and_addresses(app: Path, tmp_path: Path, boxwright: Program) -> None:
    dist = tmp_path / "dist"
    boxwright("bundle", app, "-o", dist)
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    right = f"Bearer {TOKEN}"
    with served(dist, "--token-file", file) as url:
        assert status(f"{url}/latest", Authorization=right) == 200
        for wrong in (f"{right}x", right[:-1], TOKEN, "Bearer ", "Basic eDp5"):
            assert status(f"{url}/latest", Authorization=wrong) == 401, wrong
        assert status(f"{url}/latest") == 401
        assert status(f"{url}/nothing") == 401, "nor what there is"
    with served(dist, "--allow", "10.0.0.0/8", BOXWRIGHT_BUNDLE_TOKEN=TOKEN) as url:
        assert status(f"{url}/latest", Authorization=right) == 403
    with served(dist, "--allow", "10.0.0.0/8", "--allow", "127.0.0.1", BOXWRIGHT_BUNDLE_TOKEN=TOKEN) as url:
        assert status(f"{url}/latest", Authorization=right) == 200
        assert status(f"{url}/latest") == 401
    with served(dist, "--bind", "::", "--allow", "127.0.0.0/8") as url:  # an IPv4 client on an IPv6 socket
        assert status(url.replace("[::]", "127.0.0.1") + "/latest") == 200
        assert status(url.replace("[::]", "[::1]") + "/latest") == 403
    file.write_text("short\n")
    for words, code in (
        (["--token-file", file], "serve.token"),
        (["--token-file", tmp_path / "no"], "serve.token"),
        (["--allow", "10.0.0.1/8"], "serve.network"),
        (["--tls-key", file], "usage.tls"),
    ):
        assert code in boxwright("bundle", "serve", dist, *words, status=2).err
    assert "serve.directory" in boxwright("bundle", "serve", tmp_path / "no", status=2).err
    assert "serve.tls" in boxwright("bundle", "serve", dist, "--tls-cert", file, status=1).err


def test_tls_with_a_certificate_that_is_replaced(app: Path, tmp_path: Path, boxwright: Program) -> None:
    boxwright("bundle", app, "-o", tmp_path / "dist")
    make_certificate(tmp_path, "first")
    first = ssl.create_default_context(cafile=tmp_path / "tls.crt")
    with served(tmp_path / "dist", "--tls-cert", tmp_path / "tls.crt", "--tls-key", tmp_path / "tls.key") as url:
        assert url.startswith("https://")
        port = int(url.rpartition(":")[2])
        # One that never says anything keeps nobody waiting.
        with socket.create_connection(("127.0.0.1", port)):
            assert status(f"{url}/latest", first) == 200
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.sendall(b"GET /latest HTTP/1.0\r\n\r\n")
            plain.settimeout(5)
            assert b"200" not in plain.recv(100)
        make_certificate(tmp_path, "second")
        second = ssl.create_default_context(cafile=tmp_path / "tls.crt")
        assert status(f"{url}/latest", second) == 200
        with pytest.raises(urllib.error.URLError):
            status(f"{url}/latest", first)


def test_what_is_asked_for_is_said(app: Path, tmp_path: Path, boxwright: Program) -> None:
    boxwright("bundle", app, "-o", tmp_path / "dist")
    with boxwright.start("bundle", "serve", tmp_path / "dist", "--port", str(port := free_port())) as server:
        until(lambda: _answers(port))
        server.send_signal(signal.SIGINT)
        _, err = server.communicate(timeout=10)
    assert "127.0.0.1 200 GET /latest HTTP/1.1" in err


def _answers(port: int) -> bool:
    try:
        return status(f"http://127.0.0.1:{port}/latest") == 200
    except OSError:
        return False
