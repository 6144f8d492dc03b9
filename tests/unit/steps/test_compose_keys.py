"""Keys of Compose steps: every field counts but the reason why a package is there; a golden value holds them still."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from boxwright.model.digest import Digest, digest_of
from boxwright.model.keys import key_of
from boxwright.model.step import Compose, ComposedPackage, PackageUser
from boxwright.ports import StepInputs
from boxwright.steps.compose import ComposeKind
from boxwright.steps.union import named

GOLDEN = Path(__file__).parents[2] / "golden" / "compose.json"
STATE, ONE, TWO, TOOLS = (digest_of(text) for text in (b"state", b"1", b"2", b"tools"))
PACKAGE = ComposedPackage(
    "www/nginx-1.22.1",
    (("dev", ("usr/include/**",)),),
    ("dev",),
    ("nginx-light",),
    (PackageUser("www", 105, 105, "www"),),
    "container.yaml names it",
    "1.22.1",
)
SAMPLE = Compose((PACKAGE, ComposedPackage("debian/libc6=2.36-9")), (PackageUser("web", 900, 900, "web"),))
STATES: tuple[Digest | None, ...] = (STATE, ONE, TWO, TOOLS)


def key(step: Compose, states: tuple[Digest | None, ...] = STATES) -> str | None:
    kind = ComposeKind(None, None, None)  # type: ignore[arg-type]
    fields = kind.fields(step, StepInputs(states, ()))
    return key_of("Compose", fields) if fields is not None else None


def changed(**fields: Any) -> Compose:
    return SAMPLE._replace(packages=(PACKAGE._replace(**fields), *SAMPLE.packages[1:]))


@pytest.mark.parametrize(
    "other",
    [
        changed(name="www/nginx-1.22.2", version="1.22.2"),
        changed(parts=()),
        changed(wanted=()),
        changed(replaces=()),
        changed(users=()),
        SAMPLE._replace(users=()),
        SAMPLE._replace(overlay=True),
    ],
)
def test_every_field_counts(other: Compose) -> None:
    assert key(other) != key(SAMPLE)


def test_every_input_counts() -> None:
    keys = {
        key(SAMPLE, tuple(digest_of(b"x") if place == number else state for place, state in enumerate(STATES)))
        for number in range(4)
    }
    assert len(keys | {key(SAMPLE)}) == 5


def test_the_reason_does_not_count() -> None:
    assert key(changed(reason="another")) == key(SAMPLE)


def test_it_is_open_while_an_input_is_not_known() -> None:
    assert key(SAMPLE, (STATE, None, TWO, TOOLS)) is None


def test_golden_key() -> None:
    assert key(SAMPLE) == json.loads(GOLDEN.read_text("utf-8"))["key"]


@pytest.mark.parametrize(
    ("name", "package", "version", "expected"),
    [
        ("nginx", "www/nginx-1.22.1", "1.22.1", True),
        ("www/nginx", "www/nginx-1.22.1", "1.22.1", True),
        ("nginx-1.22.1", "www/nginx-1.22.1", "1.22.1", True),
        ("www/nginx-1.22.1", "www/nginx-1.22.1", "1.22.1", True),
        ("nginx-1.22.2", "www/nginx-1.22.1", "1.22.1", False),
        ("ngin", "www/nginx-1.22.1", "1.22.1", False),
        ("dev/java-17-openjdk", "dev/java-17-openjdk-17.0.2-8", "17.0.2-8", True),
        ("java-17-openjdk", "dev/java-17-openjdk-17.0.2-8", "17.0.2-8", True),
        ("java", "dev/java-17-openjdk-17.0.2-8", "17.0.2-8", False),
        ("tool", "dev/tool-b12", "b12", True),
        ("dev/tool-b12", "dev/tool-b12", "b12", True),
        ("debian/libssl3", "debian/libssl3=3.0.17-1~deb12u2", "", True),
        ("libssl3", "debian/libssl3=3.0.17-1~deb12u2", "", True),
        ("debian/libssl", "debian/libssl3=3.0.17-1~deb12u2", "", False),
        ("base", "base", "", True),
    ],
)
def test_what_replaces_names(name: str, package: str, version: str, expected: bool) -> None:  # noqa: FBT001
    assert named((name,), package, version) is expected


def test_the_version_counts_where_the_name_does_not_show_it() -> None:
    one, other = (changed(name="dev/java-17-openjdk-17.0", version=version) for version in ("17.0", "openjdk-17.0"))
    shown = changed(name="dev/java-17-openjdk-17.0", version="17-openjdk-17.0")
    assert len({key(one), key(other), key(shown)}) == 3
