"""The text of locks: everything wrong is an error with its line; what is written can be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from boxwright.app.locks import Lock, LockedPackage, lock_name, lock_text, parse_lock, read_lock
from boxwright.errors import DefinitionError
from boxwright.sources.debian import debian_architecture

HEX = "a" * 64
GOOD = {
    "format": 1,
    "platform": "linux/amd64",
    "urls": {"https://example.org/f": HEX},
    "git": {"https://example.org/r.git#main": "b" * 40},
    "debian-packages": {"x=1": f"sha256:{HEX} pool/main/x/x_1_amd64.deb", "y=2": f"sha256:{'c' * 64}"},
    "debian-sources": {"x=1": [["x_1.dsc", f"sha256:{'d' * 64}", "pool/main/x/x_1.dsc"], ["x.tar", f"sha256:{HEX}"]]},
    "bases": {
        "debian:bookworm gcc": {
            "content": f"sha256:{HEX}",
            "packages": [["libc6", "2.36-9+deb12u1", "amd64", "e" * 64, "pool/libc6.deb", "required"]],
            "sources": ["deb [signed-by=/usr/share/keyrings/d.gpg] http://mirror.example/debian bookworm main"],
        }
    },
    "images": {"nginx": {"source": "registry", "name": "docker.io/library/nginx:latest", "content": f"sha256:{HEX}"}},
    "packages": {"x-1": f"sha256:{HEX}"},
}


def read(data: object) -> Lock:
    return parse_lock("boxwright.lock", lock_text(data))


def test_what_is_written_is_read() -> None:
    lock = read(GOOD)
    assert lock.pins["url https://example.org/f"] == HEX
    assert lock.pins["git https://example.org/r.git#main"] == "b" * 40
    assert lock.pins["debian-package x=1"] == f"sha256:{HEX}"
    assert lock.pins["base debian:bookworm gcc"] == f"sha256:{HEX}"
    assert lock.paths == {
        HEX: "pool/main/x/x_1_amd64.deb", "d" * 64: "pool/main/x/x_1.dsc", "e" * 64: "pool/libc6.deb",
    }  # fmt: skip
    base = lock.bases["debian:bookworm gcc"]
    assert base.packages == (LockedPackage("libc6", "2.36-9+deb12u1", "amd64", "e" * 64, "pool/libc6.deb", "required"),)
    assert lock.images["nginx"].name == "docker.io/library/nginx:latest"
    assert json.loads(lock_text(GOOD)) == GOOD
    assert max(map(len, lock_text(GOOD).splitlines())) < 200


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("urls", "https://example.org/f", "short"),
        ("urls", "https://example.org/f", 7),
        ("git", "r", "main"),
        ("debian-packages", "x=1", HEX),
        ("debian-packages", "x=1", f"sha256:{HEX} ../../etc/passwd"),
        ("debian-packages", "x=1", f"sha256:{HEX} /pool/x"),
        ("debian-packages", "x=1", f"sha256:{HEX} https://evil.example.org/x"),
        ("debian-sources", "x=1", []),
        ("debian-sources", "x=1", [["../x", f"sha256:{HEX}"]]),
        ("debian-sources", "x=1", [["-x", f"sha256:{HEX}"]]),
        ("bases", "b", {"packages": []}),
        ("bases", "b", {"content": f"sha256:{HEX}", "packages": [["libc6"]]}),
        ("bases", "b", {"content": f"sha256:{HEX}", "packages": [["-x", "1", "all", HEX]]}),
        ("bases", "b", {"content": f"sha256:{HEX}", "packages": [["x", "1", "all", HEX, "pool/../..", "required"]]}),
        ("bases", "b", {"content": f"sha256:{HEX}", "packages": [["x", "1", "all", HEX, "p", "a\nPackage: y"]]}),
        ("bases", "b", {"content": f"sha256:{HEX}", "sources": ["deb x y\ndeb z"]}),
        ("bases", "b", {"content": f"sha256:{HEX}", "sources": ["deb [trusted=yes] x y"]}),
        ("images", "b", {"content": f"sha256:{HEX}"}),
        ("packages", "x-1", None),
    ],
)
def test_what_is_wrong_has_its_line(section: str, name: str, value: object) -> None:
    text = lock_text({**GOOD, section: {name: value}})
    line = next(number for number, shown in enumerate(text.splitlines(), 1) if shown.startswith(f' "{section}": '))
    with pytest.raises(DefinitionError) as raised:
        parse_lock("boxwright.lock", text)
    assert raised.value.code == "lock.damaged"
    assert raised.value.where is not None
    assert raised.value.where.line in (line, line + 1)


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "{}", '{"format": 1, "urls": []}', '{"format": 1, "urls": {}, "urls": {}}']
)
def test_what_is_no_lock(text: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        parse_lock("boxwright.lock", text)
    assert raised.value.code == "lock.damaged"
    assert raised.value.where is not None


def test_a_section_of_another_name_and_another_format() -> None:
    for changed, code in (
        ({"ulrs": {}}, "lock.damaged"),
        ({"format": 2}, "lock.version"),
        ({"format": "1"}, "lock.version"),
    ):
        with pytest.raises(DefinitionError) as raised:
            read({**GOOD, **changed})
        assert raised.value.code == code


@pytest.mark.parametrize(
    ("data", "counts"),
    [
        ({"bases": GOOD["bases"]}, True),
        ({"debian-packages": {"y=2": f"sha256:{HEX}"}}, True),
        ({"urls": GOOD["urls"], "git": GOOD["git"]}, False),
    ],
)
def test_what_a_lock_of_another_platform_is_good_for(tmp_path: Path, data: dict[str, object], *, counts: bool) -> None:
    (tmp_path / "boxwright.lock").write_text(lock_text({"format": 1, "platform": "linux/amd64", **data}))
    file = str(tmp_path / "pkg.yaml")
    assert read_lock(file, "linux/amd64") is not None
    if not counts:
        assert read_lock(file, "linux/arm64") is not None
        return
    with pytest.raises(DefinitionError) as raised:
        read_lock(file, "linux/arm64")
    assert raised.value.code == "lock.platform"


def test_what_lies_where_is_no_part_of_a_name() -> None:
    assert lock_name("tar:/a/b c/d.tar@sha") == "tar:d.tar@sha"
    assert lock_name("image+oci-archive:/a/b@sha256:c") == "image+oci-archive:b@sha256:c"
    assert lock_name("image+registry:host/a/b@sha256:c") == "image+registry:host/a/b@sha256:c"
    assert lock_name("debian:bookworm gcc") == "debian:bookworm gcc"


@pytest.mark.parametrize(
    ("platform", "name"), [("linux/amd64", "amd64"), ("linux/386", "i386"), ("linux/arm/v7", "armhf")]
)
def test_debians_names_of_architectures(platform: str, name: str) -> None:
    assert debian_architecture(platform) == name
