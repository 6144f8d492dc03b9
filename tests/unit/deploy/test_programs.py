"""Engines that are programs: what they say where something is not there, and where they fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from boxwright.engines.bridges import MachineSubnets
from boxwright.engines.deploy.oci import DockerStacks, Hooks, OciStacks
from boxwright.engines.deploy.program import Program, says_gone
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import InstanceSpec, NewInstance, instance_labels

# podman 4.3 and docker 28.2.
NOT_THERE = [
    "Error: inspecting object: no such container n1",
    "error inspecting object: no such volume n2\nError: inspecting object: no such volume n1",
    "Error: inspecting object: network n1: unable to find network with name or ID n1: network not found",
    "Error: inspecting object: localhost/n1:a: image not known",
    'Error: no container with name or ID "n1" found: no such container',
    'Error: no volume with name "n1" found: no such volume',
    "Error response from daemon: No such container: n1\nError response from daemon: No such container: n2",
    "Error response from daemon: get n1: no such volume",
    "Error response from daemon: network n1 not found\nexit status 1",
    "Error response from daemon: no such image: localhost/n1:a: No such image: localhost/n1:a",
    "Flag --time has been deprecated, use --timeout instead\nError response from daemon: No such container: n1",
    'time="2026" level=warning msg="slow"\nError: inspecting object: no such container n1',
]
FAILED = [
    "",
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
    "dial unix /var/run/docker.sock: connect: no such file or directory",
    "Error: opening database: open /var/lib/containers/libpod/bolt_state.db: no such file or directory",
    "Error response from daemon: No such container: n1\nError response from daemon: i/o timeout",
    'time="2026" level=warning msg="slow"',
    "Error: error acquiring lock 5: file exists",
    "Error response from daemon: driver failed: plugin not found",
]


@pytest.mark.parametrize("text", NOT_THERE)
def test_what_is_not_there(text: str) -> None:
    assert says_gone(text.encode())


@pytest.mark.parametrize("text", FAILED)
def test_what_failed_is_not_taken_for_what_is_not_there(text: str) -> None:
    assert not says_gone(text.encode())


SCRIPT = """\
#!/bin/sh
echo "$*" >>{place}/log
for word in "$1" "$1-$2"; do
    if [ -e "{place}/$word.out" ]; then
        cat "{place}/$word.out"
        cat "{place}/$word.err" >&2 2>/dev/null && exit 125
        exit 0
    fi
done
"""


class Place:
    """A program in whose place another one says what it is told to say."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.directory = directory
        (directory / name).write_text(SCRIPT.format(place=directory))
        (directory / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
        monkeypatch.setattr("boxwright.engines.deploy.oci.machine_subnets", MachineSubnets)
        kind = DockerStacks if name == "docker" else OciStacks
        hooks = Hooks(lambda *_: None, lambda *_: None, lambda *_: None, lambda *it: it)  # type: ignore[arg-type]
        self.engine = kind(name, Program(name), hooks)

    def says(self, words: str, out: Any = "", err: str | None = None) -> None:
        text = out if isinstance(out, str) else json.dumps(out)
        (self.directory / f"{words}.out").write_text(text)
        if err is not None:
            (self.directory / f"{words}.err").write_text(err)

    def was_asked(self, words: str) -> bool:
        return any(it.startswith(words) for it in (self.directory / "log").read_text().splitlines())


@pytest.fixture(params=["podman", "docker"])
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Place:
    return Place(tmp_path, monkeypatch, request.param)


def container(state: str = "running") -> dict[str, Any]:
    spec = InstanceSpec("web", 1, "one", "web")
    labels = dict(instance_labels("shop", spec, 1, ()))
    return {"Name": "/shop-web-1-g1", "Config": {"Labels": labels}, "State": {"Status": state}}


@pytest.mark.parametrize("err", ["Cannot connect to the Docker daemon", "Error: database is locked"])
def test_an_inspection_that_fails_is_not_an_empty_stack(place: Place, err: str) -> None:
    place.says("ps", "one\n")
    place.says("inspect", [], err)
    with pytest.raises(BoxwrightError) as caught:
        place.engine.observe("shop")
    assert caught.value.code == "deploy.engine-failed"
    assert err in caught.value.message
    with pytest.raises(BoxwrightError):
        place.engine.state("shop-web-1-g1")


def test_what_went_while_it_was_looked_at_is_left_out(place: Place) -> None:
    place.says("ps", "one\ntwo\n")
    place.says("inspect", [container()], "Error response from daemon: No such container: two")
    assert [it.name for it in place.engine.observe("shop").instances] == ["shop-web-1-g1"]


def test_what_is_no_json_is_an_error(place: Place) -> None:
    place.says("ps", "one\n")
    place.says("inspect", "panic: runtime error")
    with pytest.raises(BoxwrightError) as caught:
        place.engine.observe("shop")
    assert caught.value.code == "deploy.engine-failed"


def test_networks_and_memory_that_can_not_be_seen_are_not_missing(place: Place) -> None:
    place.says("network-ls", "one\n")
    place.says("network-inspect", [], "Error: i/o timeout")
    with pytest.raises(BoxwrightError):
        place.engine.observe("shop")
    place.says("volume-inspect", [], "Error: i/o timeout")
    for work in (lambda: place.engine.read_document("shop", "releases"), lambda: place.engine.lock("shop", 0)):
        with pytest.raises(BoxwrightError) as caught:
            work()
        assert caught.value.code == "deploy.engine-failed"
    assert not place.was_asked("volume create")


@pytest.mark.parametrize("state", ["running", "created"])
def test_what_runs_is_never_replaced_by_a_new_one_of_its_name(place: Place, state: str) -> None:
    place.says("volume-inspect", [{"Mountpoint": str(place.directory)}])
    place.says("create", "", "Error: that name is already in use")
    place.says("inspect", [container(state)])
    new = NewInstance("shop-web-1-g1", "shop", InstanceSpec("web", 1, "one", "web", argv=("/srv",)), (), (), ())
    with pytest.raises(BoxwrightError) as caught:
        place.engine.create(new)
    assert caught.value.code == ("deploy.taken" if state == "running" else "deploy.engine-failed")
    assert place.was_asked("rm") == (state != "running")
