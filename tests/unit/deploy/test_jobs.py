"""What ends: a job that others wait for, and what `deploy` and `watch` do about it."""

from __future__ import annotations

import pytest

from boxwright.app.stacks.watching import Watcher
from boxwright.deploy import health
from boxwright.deploy.applying import Limits, apply_plan
from boxwright.deploy.engine import Executed
from boxwright.deploy.history import releases_text, with_release
from boxwright.deploy.planning import START, make_plan
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import RUNNING, ContainerSpec, Desired, InstanceSpec
from boxwright.model.stack import Check
from tests.unit.deploy.memory import MemoryEngine
from tests.unit.deploy.test_planning import Nothing

JOB, WEB = "shop-job-1-g1", "shop-web-1-g1"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_SETTLE", 0.0)


def shop(restart: str = "no", check: Check = Check("none"), web: str = "") -> Desired:  # noqa: B008  a constant
    job = InstanceSpec("job", 1, "once", "once", restart=restart, health=check)
    served = InstanceSpec("web", 1, "serve", "serve", restart=web)
    return Desired("shop", (ContainerSpec("job", (job,)), ContainerSpec("web", (served,), (("job", "completed"),))))


def deploy(engine: MemoryEngine, wanted: Desired) -> None:
    observed = engine.observe(wanted.stack)
    apply_plan(engine, wanted, observed, make_plan(wanted, observed), Nothing(), lambda _: None, Limits(4))


def work(engine: MemoryEngine, wanted: Desired) -> list[tuple[str, str]]:
    return [(it.action, it.name) for it in make_plan(wanted, engine.observe(wanted.stack)).work]


def watched(engine: MemoryEngine, wanted: Desired) -> list[str]:
    """What `watch` starts when it looks."""
    engine.documents["releases"] = releases_text(with_release((), wanted, "deploy", 1))
    engine.log.clear()
    watcher = Watcher(engine, "shop", lambda _: None)
    for _ in range(3):
        watcher.look()
    return [it for it in engine.log if it.startswith(("start", "stop"))]


@pytest.mark.parametrize("restart", ["no", "on-failure"])
def test_others_are_started_when_a_job_has_ended_well_and_it_is_not_run_again(restart: str) -> None:
    engine, wanted = MemoryEngine(), shop(restart)
    engine.ended = {"once": 0}
    deploy(engine, wanted)
    assert engine.log.index(f"create {WEB}") > engine.log.index(f"start {JOB}")
    assert engine.instances[WEB][1] == RUNNING
    assert work(engine, wanted) == []
    assert watched(engine, wanted) == []


def test_a_job_that_has_ended_well_is_not_asked_until_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = MemoryEngine()
    engine.ended = {"once": 0}
    asked: list[str] = []

    def refused(instance: str, *_: object) -> Executed:
        asked.append(instance)
        return Executed(1, b"")

    monkeypatch.setattr(engine, "execute", refused)
    deploy(engine, shop(check=Check("command", command=("ask",), start_period=60.0)))
    assert asked == [JOB]
    assert engine.instances[WEB][1] == RUNNING


@pytest.mark.parametrize("restart", ["no", "on-failure"])
def test_nothing_is_started_after_a_job_that_failed(restart: str) -> None:
    engine = MemoryEngine()
    engine.ended = {"once": 3}
    with pytest.raises(BoxwrightError) as caught:
        deploy(engine, shop(restart))
    assert caught.value.code == "deploy.ended"
    assert "3" in caught.value.message
    assert WEB not in engine.instances


def test_what_is_run_once_and_ends_later_is_for_the_next_deployment() -> None:
    engine, wanted = MemoryEngine(), shop(web="no")
    engine.ended = {"once": 0}
    deploy(engine, wanted)
    engine.end(WEB, 1)
    assert watched(engine, wanted) == []
    assert work(engine, wanted) == [(START, "web-1")]
    deploy(engine, wanted)
    assert engine.instances[WEB][1] == RUNNING
    engine.end(WEB, 0)
    assert watched(engine, wanted) == []
    assert work(engine, wanted) == []


@pytest.mark.parametrize("restart", ["", "always", "unless-stopped", "on-failure"])
def test_what_is_to_run_is_started_again_by_watch(restart: str) -> None:
    engine, wanted = MemoryEngine(), shop(web=restart)
    engine.ended = {"once": 0}
    deploy(engine, wanted)
    engine.end(WEB, 1)
    assert watched(engine, wanted) == [f"start {WEB}"]


def test_what_is_run_once_is_not_restarted_where_its_check_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is to run is."""
    check = Check("command", command=("ask",), interval=0.0, retries=1, start_period=0.0)
    for restart, expected in (("no", []), ("", ["stop shop-job-1-g1", "start shop-job-1-g1"])):
        engine = MemoryEngine()
        job = InstanceSpec("job", 1, "serve", "serve", restart=restart, health=check)
        wanted = Desired("shop", (ContainerSpec("job", (job,)),))
        deploy(engine, wanted)
        monkeypatch.setattr(engine, "execute", lambda *_: Executed(1, b""))
        assert watched(engine, wanted)[: len(expected) or None] == expected
