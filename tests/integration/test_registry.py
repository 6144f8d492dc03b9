"""pull, copy, index, credentials, TLS and what belongs to images, with a registry of the test's own."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Program
from tests.integration.registries import Registry, proxied, serving
from tests.integration.test_layers import needed
from tests.integration.test_push import run, unpacked

Context = Callable[..., Path]
FILES = {f"d{number // 20}/{number}.txt": os.urandom(15_000) for number in range(120)}
BCRYPT = "$2b$04$yeLkRobgMPhb3jShLK8.JOsYrm2VeK78l/iNJQn0mnWJlxQmTZZKO"  # of "pass:word"
RECIPE = """\
FROM tar:{base}
COPY . /app
RUN echo one > /one && ln /one /two && ln -s one /soft && mkdir -p /empty && chmod 1777 /empty
LABEL a=1 b=2
ENV GREETING=hello
EXPOSE 80
CMD ["cat", "/app/note"]
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with serving(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def place(context: Context, busybox_base: Path) -> Path:
    return context(RECIPE.format(base=busybox_base), {**FILES, "note": "first\n"})


@pytest.fixture
def other(fresh_boxwright: Program, tmp_path: Path) -> Program:
    """Another machine: its own store and home."""
    (tmp_path / "home").mkdir()
    return fresh_boxwright.with_environment(HOME=str(tmp_path / "home"), XDG_RUNTIME_DIR="")


def built(boxwright: Program, place: Path, *names: str) -> str:
    tags = [word for name in names for word in ("-t", name)]
    return boxwright("build", place, "-q", *tags).out.strip()


# Pull ----------------------------------------------------------------------------------------------------------------


def test_what_is_pulled_is_what_was_pushed(boxwright: Program, other: Program, registry: Registry, place: Path) -> None:
    name = f"{registry.host}/pull/app:v1"
    identity = built(boxwright, place, name)
    boxwright("push", name, "--layers", "auto:6")
    said = other("pull", name)
    assert identity in said.out
    assert other("run", "--rm", name).out == "first\n"
    assert "here already" in other("pull", name).err
    other("fsck")
    other("pull", "-q", f"{name.partition(':v1')[0]}@{boxwright('push', name, '-q', '--layers', 'auto:6').out.strip()}")


SETTINGS = """\
FROM tar:{base}
LABEL zebra=1 apple=2 middle="a b"
EXPOSE 9000 80/udp 443
PORT 8080:80
PORT 53:53/udp
PORT 443
VOLUME /z /a
ENV Z=1 A=2
USER 10:20
WORKDIR /w
STOPSIGNAL SIGINT
SHELL ["/bin/sh", "-e", "-c"]
ONBUILD RUN true
HEALTHCHECK --interval=5s --retries=2 CMD true
ENTRYPOINT ["/bin/sh"]
CMD []
COPY --chown=5:6 . /app
"""


def test_an_image_that_is_pushed_and_pulled_is_the_same_image(
    boxwright: Program, other: Program, registry: Registry, context: Context, busybox_base: Path
) -> None:
    name = f"{registry.host}/pull/settings:v1"
    place = context(SETTINGS.format(base=busybox_base), {"note": "text"})
    identity = built(boxwright, place, name)
    for layers in ("auto", "flat"):
        boxwright("push", name, "--layers", layers)
        said = other("pull", name)
        assert identity in said.out, layers
        one, same = (json.loads(program("inspect", name).out)[0] for program in (boxwright, other))
        assert one == same


def test_a_second_pull_fetches_what_is_missing(
    boxwright: Program, other: Program, registry: Registry, place: Path
) -> None:
    with proxied(registry) as proxy:
        name = f"{proxy.host}/pull/delta:v1"
        built(boxwright, place, name)
        boxwright("push", name)
        other("pull", name)
        whole = proxy.sent
        (place / "note").write_text("second\n")
        identity = built(boxwright, place, name)
        boxwright("push", name)
        before, asked = proxy.sent, proxy.count("GET", "/blobs/")
        assert identity in other("pull", name).out
        assert proxy.count("GET", "/blobs/") - asked <= 3
        assert proxy.sent - before < whole
    assert other("run", "--rm", name).out == "second\n"


HISTORY = """\
FROM tar:{base}
COPY . /app
RUN ln /app/note /hard && ln -s /app /soft && chmod 4755 /app/d0/0.txt
ARG WORD
RUN rm -r /app/d1 && echo other > /app/d2/40.txt && echo $WORD > /word
"""


def files_of(program: Program) -> set[int]:
    """The inodes of the files in its store's layers."""
    return {path.lstat().st_ino for path in (program.home / "l").rglob("*") if path.is_file() and not path.is_symlink()}


def test_layers_that_are_here_are_neither_fetched_nor_unpacked(
    boxwright: Program, other: Program, registry: Registry, context: Context, busybox_base: Path, tmp_path: Path
) -> None:
    """One layer for each instruction: of three revisions all are the same but the last, which hides files of others."""
    with proxied(registry) as proxy:
        names = [f"{proxy.host}/pull/shared:{word}" for word in ("one", "two", "three")]
        place = context(HISTORY.format(base=busybox_base), {**FILES, "note": "text"})
        for name in names:
            boxwright("build", place, "-q", "-t", name, "--build-arg", f"WORD={name}", "--push", "--layers")

        def pulled(name: str) -> int:
            """How many blobs had to come."""
            asked = proxy.count("GET", "/blobs/")
            other("pull", name)
            return proxy.count("GET", "/blobs/") - asked

        whole = pulled(names[0])
        before = files_of(other)
        shutil.rmtree(other.home / "cache/blobs")  # of what is unpacked no archive is needed
        assert pulled(names[1]) == 2  # the configuration, the last layer
        assert len(files_of(other) - before) == 2  # what that brought; all else are names of the same files
        # What is damaged is fetched again.
        for path in (other.home / "cache/layers").glob("*/[0-9]*"):
            data = path.read_bytes()
            path.unlink()
            path.write_bytes(data[:-1] + b"x")
        shutil.rmtree(other.home / "cache/blobs")
        assert pulled(names[2]) == whole
        fresh = Program(tmp_path / "third", other.environment)
        for name in names[1:]:
            fresh("pull", name)
            images = [json.loads(program("inspect", name).out)[0] for program in (other, fresh)]
            assert images[0] == images[1]
    other("fsck")


def test_a_pull_takes_only_what_the_key_signed(
    boxwright: Program, other: Program, registry: Registry, place: Path, tmp_path: Path
) -> None:
    name = f"{registry.host}/pull/signed:v1"
    built(boxwright, place, name)
    keys = {kind: key_pair(tmp_path, kind) for kind in ("ed25519", "ec", "stranger")}
    boxwright("push", name)
    assert "[registry.signature]" in other("pull", name, "--key", keys["ec"][1], status=1).err
    assert name not in other("images").out
    boxwright("push", name, "--sign", keys["stranger"][0])
    assert "[registry.signature]" in other("pull", name, "--key", keys["ec"][1], status=1).err
    boxwright("push", name, "--sign", keys["ec"][0])
    boxwright("push", name, "--sign", keys["ed25519"][0])
    for kind in ("ec", "ed25519", "stranger"):
        other("pull", name, "--key", keys[kind][1])
    # A signature of another image, put where this one's is.
    (place / "note").write_text("bad\n")
    built(boxwright, place, f"{name}bad")
    bad = boxwright("push", f"{name}bad", "-q").out.strip().replace(":", "-")
    good = boxwright("push", name, "-q", "--layers", "auto").out.strip()
    (at,) = registry.root.glob("docker/registry/v2/repositories/pull/signed/_manifests/tags/v1bad")
    tags = at.parent
    good_tags = [path for path in tags.iterdir() if path.name.endswith(".sig")]
    assert good_tags, good
    run("cp", "-r", good_tags[0], tags / f"{bad}.sig")
    assert "[registry.signature]" in other("pull", f"{name}bad", "--key", keys["ec"][1], status=1).err


def key_pair(directory: Path, kind: str) -> tuple[Path, Path]:
    private, public = directory / f"{kind}.key", directory / f"{kind}.pub"
    how = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if kind == "ec" else ["ed25519"]
    run("openssl", "genpkey", "-algorithm", *how, "-out", private)
    run("openssl", "pkey", "-in", private, "-pubout", "-out", public)
    private.chmod(0o600)
    return private, public


# What belongs to an image --------------------------------------------------------------------------------------------


def test_bills_provenance_and_signature_are_referrers(
    boxwright: Program, registry: Registry, place: Path, tmp_path: Path
) -> None:
    name = f"{registry.host}/team/whole:v1"
    private, public = key_pair(tmp_path, "ec")
    identity = built(boxwright, place, name)
    digest = boxwright("push", name, "-q", "--sbom", "spdx", "--sbom", "cyclonedx", "--provenance").out.strip()
    boxwright("push", name, "-q", "--provenance", "--sign", private)
    index = registry.get(f"team/whole/manifests/{digest.replace(':', '-')}", "application/vnd.oci.image.index.v1+json")
    found: dict[str, dict[str, Any]] = {}
    for descriptor in index["manifests"]:  # type: ignore[attr-defined]
        manifest: dict[str, Any] = registry.get(f"team/whole/manifests/{descriptor['digest']}")
        assert manifest["subject"]["digest"] == digest
        assert manifest["artifactType"] == descriptor["artifactType"]
        found[descriptor["artifactType"]] = manifest
    assert set(found) == {
        "application/spdx+json",
        "application/vnd.cyclonedx+json",
        "application/vnd.in-toto+json",
        "application/vnd.dsse.envelope.v1+json",
        "application/vnd.dev.cosign.artifact.sig.v1+json",
    }
    blob = blobs_reader(registry, "team/whole")
    assert json.loads(blob(found["application/spdx+json"]["layers"][0]))["spdxVersion"] == "SPDX-2.3"
    statement = json.loads(blob(found["application/vnd.in-toto+json"]["layers"][0]))
    assert statement["subject"][0]["digest"]["sha256"] == digest.removeprefix("sha256:")
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    definition = statement["predicate"]["buildDefinition"]
    assert definition["internalParameters"]["identity"] == identity
    assert definition["resolvedDependencies"][0]["uri"].startswith("tar:")
    judge_signature(found["application/vnd.dev.cosign.artifact.sig.v1+json"], blob, digest, public, tmp_path)
    judge_envelope(found["application/vnd.dsse.envelope.v1+json"], blob, public, tmp_path)
    tagged = registry.get(f"team/whole/manifests/{digest.replace(':', '-')}.sig")
    assert tagged == found["application/vnd.dev.cosign.artifact.sig.v1+json"]
    again = registry.get(f"team/whole/manifests/{digest.replace(':', '-')}", "application/vnd.oci.image.index.v1+json")
    boxwright("push", name, "-q", "--sbom", "spdx")
    assert again == index


def blobs_reader(registry: Registry, repository: str) -> Callable[[dict[str, Any]], bytes]:
    import urllib.request

    def read(descriptor: dict[str, Any]) -> bytes:
        url = f"http://{registry.host}/v2/{repository}/blobs/{descriptor['digest']}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            data: bytes = answer.read()
            return data

    return read


def openssl_verifies(public: Path, data: bytes, signature: bytes, scratch: Path) -> None:
    (scratch / "data").write_bytes(data)
    (scratch / "signature").write_bytes(signature)
    run("openssl", "dgst", "-sha256", "-verify", public, "-signature", scratch / "signature", scratch / "data")


def judge_signature(
    manifest: dict[str, Any], blob: Callable[[dict[str, Any]], bytes], digest: str, public: Path, scratch: Path
) -> None:
    """Ask openssl; the payload is in cosign's own words."""
    (layer,) = manifest["layers"]
    data = blob(layer)
    assert json.loads(data)["critical"]["image"]["docker-manifest-digest"] == digest
    signature = base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"])
    openssl_verifies(public, data, signature, scratch)


def judge_envelope(
    manifest: dict[str, Any], blob: Callable[[dict[str, Any]], bytes], public: Path, scratch: Path
) -> None:
    envelope = json.loads(blob(manifest["layers"][0]))
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"]
    signed = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    openssl_verifies(public, signed, base64.b64decode(envelope["signatures"][0]["sig"]), scratch)


# Copy and index ------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_copies_between_all_sides(
    boxwright: Program, other: Program, registry: Registry, place: Path, tmp_path: Path
) -> None:
    name = f"{registry.host}/copy/from:v1"
    identity = built(boxwright, place, name)
    private, public = key_pair(tmp_path, "ed25519")
    digest = boxwright("push", name, "-q", "--layers", "auto:5", "--sbom", "spdx", "--sign", private).out.strip()
    near = f"{registry.host}/copy/near:v1"
    said = boxwright("copy", name, f"docker://{near}")
    assert (said.out.strip(), "0 B moved" in said.err) == (digest, True), said
    boxwright("copy", near, f"oci:{tmp_path}/layout:v1")
    boxwright("copy", f"oci:{tmp_path}/layout:v1", f"oci-archive:{tmp_path}/one.tar:v1")
    (tmp_path / "second").mkdir()
    with serving(tmp_path / "second") as second:
        far = f"{second.host}/copy/far:v1"
        assert boxwright("copy", f"oci-archive:{tmp_path}/one.tar:v1", far).out.strip() == digest
        other("pull", far, "--key", public)
        boxwright("copy", far, f"docker-archive:{tmp_path}/docker.tar:copied:v1")
    flat = tmp_path / "flat"
    boxwright("export", name, f"oci,compression=gzip:{flat}")
    tree = unpacked(flat, tmp_path / "b1", name=name)
    assert unpacked(tmp_path / "layout", tmp_path / "b2") == tree
    boxwright("copy", f"docker-archive:{tmp_path}/docker.tar", f"{registry.host}/copy/again:v1")
    assert other("copy", f"{registry.host}/copy/again:v1", "local:again").status == 0
    assert other("copy", f"oci:{tmp_path}/layout:v1", "local:from-layout").out.strip() == identity
    assert other("run", "--rm", "from-layout").out == other("run", "--rm", "again").out == "first\n"
    boxwright("copy", f"local:{name}", f"oci-archive:{tmp_path}/two.tar")
    for arguments, code in (
        (("copy", "local:a", "local:b"), "usage.copy"),
        (("copy", f"oci:{tmp_path}/nothing", far), "oci.missing"),
        (("copy", f"oci:{tmp_path}/layout:v9", near), "oci.no-tag"),
        (("copy", f"{registry.host}/copy/none:v1", near), "registry.not-found"),
        (("copy", near, f"{near}@{digest}"), "usage.copy"),
    ):
        assert f"[{code}]" in boxwright(*arguments, status=None).err, code


def for_arm(layout: Path) -> None:
    """Turn the image of a layout into one for another processor."""
    index = json.loads((layout / "index.json").read_bytes())
    manifest = json.loads(blob_file(layout, index["manifests"][0]).read_bytes())
    config = json.loads(blob_file(layout, manifest["config"]).read_bytes())
    config |= {"architecture": "arm64", "variant": "v8"}
    rewritten(layout, manifest["config"], config)
    rewritten(layout, index["manifests"][0], manifest)
    index["manifests"][0].pop("platform")
    (layout / "index.json").write_text(json.dumps(index))


def blob_file(layout: Path, descriptor: dict[str, Any]) -> Path:
    return layout / "blobs" / str(descriptor["digest"]).replace(":", "/")


def rewritten(layout: Path, descriptor: dict[str, Any], value: object) -> None:
    import hashlib

    data = json.dumps(value).encode()
    descriptor |= {"digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}
    blob_file(layout, descriptor).write_bytes(data)


def test_one_name_for_several_platforms(
    boxwright: Program, other: Program, registry: Registry, place: Path, tmp_path: Path
) -> None:
    name = f"{registry.host}/multi/app:v1"
    built(boxwright, place, "for-amd")
    boxwright("export", "for-amd", f"oci:{tmp_path}/arm")
    for_arm(tmp_path / "arm")
    boxwright("copy", f"oci:{tmp_path}/arm", f"{registry.host}/multi/arm:v1")
    assert "linux/arm64/v8" in boxwright("index", "create", name, "for-amd", f"{registry.host}/multi/arm:v1").err
    raw = json.loads(boxwright("index", "inspect", name).out)
    assert [item["platform"]["architecture"] for item in raw["manifests"]] == ["amd64", "arm64"]
    for architecture in ("amd64", "arm64"):
        shown = run(
            needed("skopeo"), "inspect", f"--override-arch={architecture}", "--tls-verify=false", f"docker://{name}"
        )
        assert json.loads(shown)["Architecture"] == architecture
    other("pull", name)
    assert other("run", "--rm", name).out == "first\n"
    other("pull", "--platform", "linux/arm64", "-t", "arm", name)
    assert '"arm64"' in other("inspect", "arm").out
    assert "[oci.no-platform]" in other("pull", "--platform", "linux/s390x", name, status=5).err
    boxwright("copy", name, f"oci:{tmp_path}/both:v1")
    boxwright("copy", "--platform", "linux/arm64", name, f"oci:{tmp_path}/single:v1")
    assert (len(list((tmp_path / "both/blobs/sha256").iterdir()))) > len(
        list((tmp_path / "single/blobs/sha256").iterdir())
    )
    (place / "note").write_text("second\n")
    built(boxwright, place, "for-amd")
    boxwright("index", "create", "--append", name, "for-amd")
    new = json.loads(boxwright("index", "inspect", name).out)
    assert new["manifests"][1] == raw["manifests"][1]
    assert new["manifests"][0] != raw["manifests"][0]
    said = boxwright("index", "create", name, "for-amd", f"docker.io/none@{'sha256:' + '0' * 64}", status=None).err
    assert "[registry." in said
    built(boxwright, place, "same-platform")
    (place / "note").write_text("third\n")
    built(boxwright, place, "for-amd")
    assert "[index.twice]" in boxwright("index", "create", name, "for-amd", "same-platform", status=2).err


# Credentials, TLS, mirrors -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, Path]]:
    """A registry with a password and a certificate of its own authority, under a name that isn't plain loopback's."""
    directory = tmp_path_factory.mktemp("guarded")
    name = "ip4-registry.localdomain"
    run(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"),
        *("-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1"),
        *("-keyout", directory / "tls.key", "-out", directory / "tls.crt"),
    )
    (directory / "htpasswd").write_text(f"anna:{BCRYPT}\n")
    auth = {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}}
    tls = {"certificate": str(directory / "tls.crt"), "key": str(directory / "tls.key")}
    with serving(directory, auth=auth, tls=tls) as found:
        yield found, directory / "tls.crt"


def test_passwords_and_certificates(
    other: Program, guarded: tuple[Registry, Path], place: Path, tmp_path: Path
) -> None:
    registry, _ = guarded
    name = f"{registry.host}/team/secret:v1"
    built(other, place, name)
    assert "[registry.unauthorized]" in other("push", name, status=5).err
    assert "[registry.unauthorized]" in other("push", name, "--creds", "anna:wrong", status=5).err
    assert registry.blobs() == {}
    other("push", name, "--creds", "anna:pass:word")
    home = Path(other.environment["HOME"])
    assert (
        "[registry.unauthorized]"
        in other("login", registry.host, "-u", "anna", "--password-stdin", stdin="no\n", status=5).err
    )
    other("login", registry.host, "-u", "anna", "--password-stdin", stdin="pass:word\n")
    kept = json.loads((home / ".config/containers/auth.json").read_bytes())
    assert list(kept["auths"]) == [registry.host]
    other("push", name)
    assert "pass:word" not in other("push", name).err
    other("logout", registry.host)
    assert "[registry.unauthorized]" in other("pull", name, "-t", "x", "--authfile", tmp_path / "none", status=5).err
    # docker's file, with a helper and with a plain entry for one repository alone.
    helpers = tmp_path / "bin"
    helpers.mkdir()
    (helpers / "docker-credential-test").write_text(
        '#!/bin/sh\ncat >/dev/null\necho \'{"Username":"anna","Secret":"pass:word"}\'\n'
    )
    (helpers / "docker-credential-test").chmod(0o755)
    docker = home / ".docker/config.json"
    docker.parent.mkdir()
    with_helper = other.with_environment(PATH=f"{helpers}:{os.environ['PATH']}")
    for content in (
        {"credHelpers": {registry.host: "test"}},
        {"credsStore": "test"},
        {"auths": {f"{registry.host}/team/secret": {"auth": base64.b64encode(b"anna:pass:word").decode()}}},
        {"auths": {f"https://{registry.host}/v1/": {"auth": base64.b64encode(b"anna:pass:word").decode()}}},
    ):
        docker.write_text(json.dumps(content))
        with_helper("push", name)
    for text, code in (
        ("{", "registry.auth-file"),
        (json.dumps({"auths": {registry.host: {"auth": "%%%"}}}), "registry.auth-file"),
        (json.dumps({"credsStore": "absent"}), "registry.no-helper"),
        (json.dumps({"credsStore": "../evil"}), "registry.no-helper"),
    ):
        docker.write_text(text)
        assert f"[{code}]" in with_helper("push", name, status=None).err


def test_a_certificate_must_be_vouched_for_away_from_loopback(
    other: Program, guarded: tuple[Registry, Path], place: Path
) -> None:
    """`localhost.localdomain`'s address is this machine's, but its name isn't what Docker takes for loopback."""
    registry, authority = guarded
    port = registry.host.rpartition(":")[2]
    named = next((name for name in ("ip4-loopback", socket.gethostname()) if resolves_to_loopback(name)), None)
    if named is None:
        pytest.skip("no other name of this machine leads to 127.0.0.1")
    name = f"{named}:{port}/team/tls:v1"
    built(other, place, "app")
    assert "[registry.tls]" in other("push", "app", name, "--creds", "anna:pass:word", status=5).err
    other("push", "app", name, "--creds", "anna:pass:word", "--insecure")
    other("push", "app", name, "--creds", "anna:pass:word", "--tls-verify=false")
    # With its authority the certificate is checked, and is not for this name.
    trusted = Path(other.environment["HOME"]) / f".config/containers/certs.d/{named}:{port}"
    trusted.mkdir(parents=True)
    (trusted / "ca.crt").write_bytes(authority.read_bytes())
    said = other("push", "app", name, "--creds", "anna:pass:word", status=5).err
    assert "[registry.tls]" in said
    assert "mismatch" in said.lower()


def resolves_to_loopback(name: str) -> bool:
    try:
        return socket.gethostbyname(name).startswith("127.0.0.1")
    except OSError:
        return False


def test_mirrors_and_other_locations(boxwright: Program, other: Program, registry: Registry, place: Path) -> None:
    there = f"{registry.host}/mirror/app:v1"
    identity = built(boxwright, place, there)
    boxwright("push", there)
    home = Path(other.environment["HOME"])
    configuration = home / ".config/containers/registries.conf"
    configuration.parent.mkdir(parents=True)
    configuration.write_text(
        f'[[registry]]\nprefix = "example.invalid/a"\nlocation = "127.0.0.1:1/nothing"\n'
        f'[[registry.mirror]]\nlocation = "{registry.host}/missing"\n'
        f'[[registry.mirror]]\nlocation = "{registry.host}/mirror"\n'
        '[[registry]]\nprefix = "bad.invalid"\nblocked = true\n'
    )
    assert identity in other("pull", "example.invalid/a/app:v1").out
    said = other("pull", "example.invalid/a/none:v1", "--retry", "0", status=5).err
    assert "[registry.unreachable]" in said
    assert "[registry.blocked]" in other("pull", "bad.invalid/x", status=5).err
    configuration.write_text("[[registry]\n")
    assert "[registry.config]" in other("pull", "example.invalid/a/app:v1", status=5).err
    configuration.unlink()
    (home / ".boxwright-config.yaml").write_text(
        f"registries:\n  other.invalid:\n    location: {registry.host}/mirror\n"
    )
    assert identity in other("pull", "other.invalid/app:v1").out
    (home / ".boxwright-config.yaml").write_text("registries:\n  other.invalid:\n    mirors: []\n")
    assert "[config.unknown-key]" in other("pull", "other.invalid/app:v1", status=2).err


def test_dumps_of_databases_travel_with_the_image(
    boxwright: Program, other: Program, registry: Registry, place: Path
) -> None:
    """The database's server is not needed for this: an image that says that it has one."""
    name = f"{registry.host}/data/app:v1"
    identity = built(boxwright, place, name)
    subprocess.run(
        ["python3", "-c", WITH_DATABASE, boxwright.home / "index.db", boxwright.home / "dumps", identity], check=True
    )
    said = boxwright("push", name).err
    assert "the content of DB" in said
    other("pull", name)
    (dump,) = (other.home / "dumps").iterdir()
    assert dump.read_text() == "SELECT 1;\n"
    repository = registry.root / "docker/registry/v2/repositories/data/app/_manifests/tags"
    for tag in repository.iterdir():
        if tag.name.startswith("sha256-"):
            run("rm", "-r", tag)
    other("rm", name)
    dump.unlink()
    other("gc", "--all")
    assert "[dbase.dump-missing]" in other("pull", name, status=5).err


WITH_DATABASE = """
import hashlib, json, os, sqlite3, sys
index, dumps, identity = sys.argv[1:]
data = b"SELECT 1;\\n"
digest = hashlib.sha256(data).hexdigest()
os.makedirs(dumps, exist_ok=True)
open(f"{dumps}/{digest}", "wb").write(data)
db = sqlite3.connect(index)
(config,) = db.execute("SELECT config FROM images WHERE identity=?", (identity,)).fetchone()
value = json.loads(config)
one = {"name": "DB", "kind": "postgresql", "version": "15", "dump": f"sha256:{digest}"}
one |= {"size": len(data), "embedded": False}
value["databases"] = [one]
value["labels"].append(["dev.boxwright.databases", json.dumps([one])])
text = json.dumps(value, sort_keys=True, separators=(",", ":"))
db.execute("UPDATE images SET config=? WHERE identity=?", (text, identity))
db.commit()
"""
