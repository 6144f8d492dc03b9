from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from boxwright.model.digest import Digest
from boxwright.model.keys import companions, data_fields, key_of
from boxwright.model.step import Run, Service
from boxwright.ports import StepInputs
from boxwright.steps.leaks import find_leak
from boxwright.steps.services import Services

STATES = tuple(Digest(f"sha256:{digit * 64}") for digit in "012")
SERVICE = Service(
    "DB", 1, ("serve",), (("a", "b"),), "postgres", "ready", 5432, "DB_PORT", (("DB_NAME", "app"),), "DB_PASSWORD"
)
SECRET = b"0123456789abcdef"


def fields(service: Service, states: tuple[Digest, ...] = STATES) -> object:
    inputs = StepInputs(states, (None,) * len(states))
    return Services.fields(Run(("true",), (), services=(service,)), inputs)


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "OTHER"},
        {"position": 2},
        {"argv": ("other",)},
        {"env": ()},
        {"user": ""},
        {"port": 5433},
        {"given": ()},
        {"password_variable": "X"},
        {"told": True},
        {"cwd": "/srv"},
    ],
)
def test_what_a_step_can_see_of_a_service_counts(changed: dict[str, Any]) -> None:
    assert fields(SERVICE._replace(**changed)) != fields(SERVICE)


def test_what_a_service_starts_from_counts() -> None:
    assert fields(SERVICE, (STATES[0], STATES[2])) != fields(SERVICE, STATES[:2])


def test_data_belongs_to_the_step_and_the_service() -> None:
    run = Run(
        ("true",), (), services=(SERVICE, SERVICE._replace(name="OTHER"), SERVICE._replace(name="NO", keep=False))
    )
    assert companions(run, STATES[0]) == tuple(
        key_of("ServiceData", data_fields(STATES[0], name)) for name in ("DB", "OTHER")
    )
    assert companions(Run(("true",), ()), STATES[0]) == ()


@pytest.mark.parametrize("before", [0, 1, (1 << 20) - 8, (1 << 20) - len(SECRET), 1 << 20, 3 << 20])
def test_a_password_is_found_wherever_it_stands(tmp_path: Path, before: int) -> None:
    place = tmp_path / "a" / "b"
    place.parent.mkdir()
    place.write_bytes(bytes(before) + SECRET + b"x")
    leak = find_leak(str(tmp_path), {SECRET: "DB_PASSWORD"})
    assert leak == ("a/b", "DB_PASSWORD")


def test_a_password_is_found_in_names_links_and_attributes(tmp_path: Path) -> None:
    for kind in ("link", "name", "attribute"):
        (tmp_path / kind).mkdir()
    os.symlink(SECRET.decode(), tmp_path / "link" / "it")
    (tmp_path / "name" / f"it-{SECRET.decode()}").mkdir()
    (tmp_path / "attribute" / "it").touch()
    os.setxattr(tmp_path / "attribute" / "it", "user.x", SECRET)
    for kind in ("link", "name", "attribute"):
        assert find_leak(str(tmp_path / kind), {SECRET: "P"}), kind


def test_whole_pages_without_a_password(tmp_path: Path) -> None:
    for pages in (0, 1, 256, 257):
        (tmp_path / str(pages)).write_bytes(b"z" * 4096 * pages)
    os.mkfifo(tmp_path / "fifo")
    assert find_leak(str(tmp_path), {SECRET: "P"}) is None
    assert find_leak(str(tmp_path), {}) is None
