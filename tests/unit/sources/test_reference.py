"""What FROM NAME means, from its spelling and what is known here."""

from __future__ import annotations

import pytest

from boxwright.errors import DefinitionError
from boxwright.sources.reference import BaseName, Meaning, classify, parse_base_name, parse_registry_name
from boxwright.sources.releases import ALPINE_LATEST

SHA = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("name", "source", "asked"),
    [
        ("scratch", "scratch", ""),
        ("debian:bookworm", "bootstrap", "debian:bookworm"),
        ("debian:trixie/system", "bootstrap", "debian:trixie/system"),
        ("ubuntu:noble", "bootstrap", "ubuntu:noble"),
        ("alpine:3.20", "bootstrap", "alpine:3.20"),
        ("alpine:3.20.3", "bootstrap", "alpine:3.20"),
        ("alpine:edge/system", "bootstrap", "alpine:edge/system"),
        ("alpine:latest", "bootstrap", f"alpine:{ALPINE_LATEST}"),
        ("ubuntu:24.04", "bootstrap", "ubuntu:noble"),
        ("ubuntu:22.04/system", "bootstrap", "ubuntu:jammy/system"),
        ("ubuntu:noble-updates", "bootstrap", "ubuntu:noble-updates"),
        ("debian:12", "bootstrap", "debian:bookworm"),
        ("debian:12.10", "bootstrap", "debian:bookworm"),
        ("ubuntu:24.04.1", "bootstrap", "ubuntu:noble"),
        ("ubuntu:latest", "bootstrap", "ubuntu:noble"),
        ("debian:bookworm-slim", "bootstrap", "debian:bookworm"),
        ("debian:sid", "bootstrap", "debian:sid"),
        ("bootstrap:debian:12?packages=g++", "bootstrap", "debian:bookworm?packages=g++"),
        ("bootstrap:debian:12?packages=b,a", "bootstrap", "debian:bookworm?packages=b,a"),
        ("debian", "registry", "docker.io/library/debian:latest"),
        (f"debian@{SHA}", "registry", f"docker.io/library/debian@{SHA}"),
        ("oci:layout", "oci", "layout"),
        ("oci:/a/layout:v1", "oci", "/a/layout:v1"),
        ("oci-archive:a.tar", "oci-archive", "a.tar"),
        ("docker-archive:a.tar.gz", "docker-archive", "a.tar.gz"),
        ("tar:rootfs", "tar", "rootfs"),
        ("./root.tar.xz", "tar", "./root.tar.xz"),
        ("root.tgz", "tar", "root.tgz"),
        ("a/root.tar", "tar", "a/root.tar"),
        ("registry:2", "registry", "docker.io/library/registry:2"),
        ("nginx", "registry", "docker.io/library/nginx:latest"),
        ("someone/nginx:1.2", "registry", "docker.io/someone/nginx:1.2"),
        ("localhost:5000/a/b", "registry", "localhost:5000/a/b:latest"),
        ("localhost/a", "registry", "localhost/a:latest"),
        ("ctx", "context", "ctx"),
        ("mine", "image", "identity-1"),
        ("corp:12", "bootstrap", "debian:bookworm"),
    ],
)
def test_meaning(name: str, source: str, asked: str) -> None:
    known = {"mine:latest": "identity-1"}
    assert classify(name, contexts={"ctx"}, tags=known, bases={"corp:12": "debian:bookworm"}) == Meaning(source, asked)


def test_order() -> None:
    everything = {"debian:bookworm": "x"}
    assert classify("debian:bookworm", contexts={"debian:bookworm"}, tags=everything).source == "context"
    assert classify("debian:bookworm", tags=everything, bases={"debian:bookworm": "ubuntu:noble"}).source == "image"
    assert classify("debian:bookworm", bases={"debian:bookworm": "ubuntu:noble"}).name == "ubuntu:noble"


@pytest.mark.parametrize("name", ["Nginx", "a//b", "a:", "a:b c", "a@sha256:12", "a/../b", "-x", "/directory", "./x"])
def test_bad_names(name: str) -> None:
    with pytest.raises(DefinitionError):
        classify(name)


def test_base_names() -> None:
    assert parse_base_name("debian:bookworm/system") == BaseName("debian", "bookworm", system=True)
    whole = BaseName("alpine", "3.20", system=True, mirror="http://m/a?b=c&d", packages=("g++", "y"), keyring="/k /l")
    assert parse_base_name(str(whole)) == whole
    for name in ("debian", "debian:", "debian:../x", "debian:bookworm/other", "debian:-o", "debian:12?mirro=x"):
        with pytest.raises(DefinitionError):
            parse_base_name(name)


@pytest.mark.parametrize(
    ("name", "local"),
    [("127.0.0.1:5000/a", True), ("localhost:5000/a", True), ("[::1]:5000/a", True), ("localhost.example/a", False)],
)
def test_loopback(name: str, local: bool) -> None:  # noqa: FBT001 - a table's column
    assert parse_registry_name(name).on_loopback is local


@pytest.mark.parametrize(
    "query",
    [
        "packages=g%2B%2B,-oDir::Bin::dpkg=/evil",
        "packages=/srv/evil.deb",
        "packages=./evil.deb",
        "packages=%3Fessential",
        "variant=--setup-hook=evil",
        "mirror=http://m/%0Adeb%20[trusted=yes]%20http://evil",
        "mirror=-oDir::Bin::dpkg=/evil",
        "keyring=/k]%20x",
    ],
)
def test_a_base_asks_for_packages_and_not_for_options(query: str) -> None:
    """They are words of mmdebstrap's and apt's command lines, which run on the host."""
    with pytest.raises(DefinitionError) as caught:
        classify(f"bootstrap:debian:bookworm?{query}")
    assert caught.value.code == "base.bad-name"
