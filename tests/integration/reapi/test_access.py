"""TLS, tokens, and mistakes in the configuration."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.casd import Casd, connects, free_port
from tests.integration.reapi.conftest import HERE, HOST, LIBRARY, THERE, Farm, Tree, build, salted, wait_for

pytestmark = pytest.mark.integration


# TLS and tokens -------------------------------------------------------------------------------------------------------

HAPROXY = """
global
    maxconn 100
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend tls
    bind 127.0.0.1:{port} ssl crt {place}/server.pem ca-file {place}/ca.pem verify required alpn h2
    http-request deny deny_status 401 unless {{ req.hdr(authorization) -m str "Bearer opensesame" }}
    default_backend casd
backend casd
    server casd {backend} proto h2
"""


@pytest.fixture
def tls(tmp_path: Path, casd: Casd) -> Iterator[tuple[str, Path]]:
    """The server behind haproxy: TLS with certificates on both sides, and a token."""
    place = tmp_path / "tls"
    place.mkdir()

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=place, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    for name in ("ca", "other"):
        openssl("req", "-x509", *key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    (place / "names").write_text("subjectAltName=IP:127.0.0.1")
    for name in ("server", "client"):
        openssl("req", *key[:-2], "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
        openssl("x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.crt")
    (place / "server.pem").write_text((place / "server.crt").read_text() + (place / "server.key").read_text())
    port = free_port()
    configuration = HAPROXY.format(port=port, place=place, backend=casd.url.removeprefix("grpc://"))
    (place / "haproxy.cfg").write_text(configuration)
    process = subprocess.Popen(["haproxy", "-db", "-f", place / "haproxy.cfg"], stderr=subprocess.DEVNULL)
    wait_for(lambda: connects(port))
    (place / "token").write_text("opensesame\n")
    yield f"grpcs://127.0.0.1:{port}", place
    process.terminate()
    process.wait()


OWN = "{ca: %s/ca.pem, certificate: %s/client.crt, key: %s/client.key}"


def test_tls_and_a_token(tree: Tree, farm: Farm, tls: tuple[str, Path], store: Any, nothing_here: Any) -> None:
    url, place = tls
    packages = tree(lib=salted(f"{HOST}; {LIBRARY}"))
    farm(url, tls=OWN % (place, place, place), token_file=place / "token")
    assert f" {THERE}\n" in build(nothing_here(store("there")), packages / "lib")


REFUSED = {
    "another-token": (OWN, "wrong"),
    "no-token": (OWN, ""),
    "another-authority": ("{ca: %s/other.pem, certificate: %s/client.crt, key: %s/client.key}", "opensesame"),
    "no-certificate": ("{ca: %s/ca.pem}%.0s%.0s", "opensesame"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_other_side_refuses_is_built_here(
    name: str, tree: Tree, farm: Farm, tls: tuple[str, Path], store: Any
) -> None:
    url, place = tls
    own, token = REFUSED[name]
    (place / "token").write_text(token)
    packages = tree(lib=salted(f"{HOST}; {LIBRARY}"))
    farm(url, tls=own % (place, place, place), token_file=place / "token" if token else "")
    text = build(store("here"), packages / "lib")
    assert f" {HERE}\n" in text
    assert "the build goes on without it" in text
    assert "opensesame" not in text


# What is written wrong ------------------------------------------------------------------------------------------------

MISTAKES = {
    "address": ("cas: casd:50951", "config.address", 2),
    "path": ("cas: grpc://h/path", "config.address", 2),
    "port": ("cas: grpc://h:99999", "config.address", 2),
    "user": ("cas: grpc://me@h", "config.address", 2),
    "execution": ("cas: grpc://h\n    execution: [grpc://h, ftp://h]", "config.address", 2),
    "unknown key": ("cas: grpc://h\n    exection: grpc://h", "config.unknown-key", 4),
    "no cas": ("execution: grpc://h", "config.wrong", 2),
    "jobs": ("cas: grpc://h\n    jobs: -1", "config.wrong", 4),
    "time limit": ("cas: grpc://h\n    time-limit: 0", "config.wrong", 4),
    "token in clear": ("cas: grpc://h.example.org\n    token-variable: TOKEN", "config.token-in-clear", 2),
    "no token": ("cas: grpcs://h\n    token-variable: MISSING", "config.token", 2),
    "no token file": ("cas: grpcs://h\n    token-file: nowhere", "config.token", 2),
    "two tokens": ("cas: grpcs://h\n    token-file: a\n    token-variable: TOKEN", "config.wrong", 2),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told_with_their_place(name: str, tree: Tree, tmp_path: Path, store: Any) -> None:
    text, code, line = MISTAKES[name]
    packages = tree(lib=LIBRARY)
    (tmp_path / "tree/.boxwright-config.yaml").write_text(f"repositories:\n  - type: reapi\n    {text}\n")
    program = store("here").with_environment(TOKEN="secret-word")
    result = program("build", packages / "lib", status=2)
    assert f"[{code}]" in result.err
    assert f".boxwright-config.yaml:{line}" in result.err
    assert "secret-word" not in result.err
