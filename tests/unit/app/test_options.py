"""Options of `build`: cases in a data file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from boxwright.app.allowed import parse_allowed
from boxwright.app.limits import parse_binary_size, parse_host, parse_limit
from boxwright.app.secrets import LARGEST, BuildSecrets, read_secrets, store_key
from boxwright.errors import BoxwrightError, UsageError
from boxwright.sandbox.agents import parse_agents
from boxwright.sandbox.cgroups import check_parent, hierarchies
from boxwright.store.home import open_home

CASES = yaml.safe_load((Path(__file__).parents[2] / "cases/build-options.yaml").read_text())
PARSERS: dict[str, Callable[[str], object]] = {
    "hosts": lambda text: list(parse_host(text)),
    "limits": lambda text: list(parse_limit(text)),
    "sizes": lambda text: parse_binary_size(text, "--shm-size"),
    "allowed": lambda text: sorted(parse_allowed([text])),
    "cgroups": check_parent,
}


def result(parse: Callable[[], object]) -> object:
    try:
        return parse()
    except BoxwrightError as error:
        return error.code


@pytest.mark.parametrize(("kind", "case"), [(kind, case) for kind in PARSERS for case in CASES[kind]], ids=str)
def test_option(kind: str, case: dict[str, Any]) -> None:
    assert result(lambda: PARSERS[kind](case["given"])) == case.get("is", case.get("error"))


@pytest.mark.parametrize("case", CASES["secrets"], ids=lambda case: str(case["name"]))
def test_secret(case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_text("from the file")
    Path("LARGE").write_bytes(bytes(LARGEST + 1))

    def parse() -> object:
        found = read_secrets(case["given"], {"NAME": "from the variable"})
        return {name: value.decode() for name, value in found.items()}

    assert result(parse) == case.get("is", case.get("error"))


def test_hashes_of_secrets(tmp_path: Path) -> None:
    here, there = open_home(str(tmp_path / "a")), open_home(str(tmp_path / "b"))
    values = {"s": b"one"}
    assert BuildSecrets(values, here, in_key=False).counted("s") is None
    assert not Path(here.secret_key).exists()
    first = BuildSecrets(values, here, in_key=True).counted("s")
    assert first == BuildSecrets(values, here, in_key=True).counted("s")
    assert first != BuildSecrets({"s": b"two"}, here, in_key=True).counted("s")
    assert first != BuildSecrets(values, there, in_key=True).counted("s")
    assert BuildSecrets(values, here, in_key=True).counted("other") is None
    assert Path(here.secret_key).stat().st_mode & 0o777 == 0o600
    assert len(store_key(here)) == 32


def test_agents(tmp_path: Path) -> None:
    keys = [tmp_path / name for name in ("a", "b")]
    for key in keys:
        key.touch()
    given = (f"default={keys[0]},{keys[1]}", f"x={keys[1]}")
    assert parse_agents(given, {}) == {"default": (str(keys[0]), str(keys[1])), "x": (str(keys[1]),)}
    assert parse_agents(("default",), {"SSH_AUTH_SOCK": str(keys[0])}) == {"default": (str(keys[0]),)}
    for wrong in (("default",), ("",), (f"=x{keys[0]}",), ("a=/nowhere",), (given[1], given[1])):
        with pytest.raises(UsageError):
            parse_agents(wrong, {})


def test_hierarchies() -> None:
    text = (
        "1 0 0:1 / / rw - ext4 /dev/vda rw\n"
        "2 1 0:2 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu\n"
        "3 1 0:2 / /elsewhere rw - cgroup cgroup rw,cpu\n"
        "4 1 0:3 / /sys/fs/cgroup/uni\\040fied rw - cgroup2 cgroup2 rw\n"
        "5 1 0:4 /below /sys/fs/cgroup/part rw - cgroup cgroup rw,pids\n"
    )
    assert hierarchies(text) == ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/uni fied")
