"""Asks an instance whether it is well, until it is or has had its chances."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from boxwright.deploy.engine import DeployEngine
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import RUNNING, InstanceSpec, is_done, with_secrets
from boxwright.model.stack import Check

_FIRST_PAUSE = 0.05
_LAST_WORDS = 2000
_SETTLE = 0.1


def await_well(
    engine: DeployEngine,
    instance: str,
    spec: InstanceSpec,
    cancelled: Callable[[], bool],
    patience: float = math.inf,
) -> None:
    """Until it is well, or runs and `patience` seconds are over.

    Raises BoxwrightError `deploy.unhealthy` or `deploy.ended`, KeyboardInterrupt when cancelled. A program that is run
    once (``restart: no``), or until it does not fail, may also have ended with 0.
    """
    check = spec.health
    if check.kind == "none":
        time.sleep(_SETTLE)
        _require_running(engine, instance, spec)
        return
    began = time.monotonic()
    failures, pause = 0, _FIRST_PAUSE
    while True:
        answer = ask(engine, instance, spec)
        if not answer:
            return
        if _require_running(engine, instance, spec) != RUNNING:
            return
        waited = time.monotonic() - began
        if waited > patience:
            return
        late = waited > check.start_period
        failures += late
        if failures >= check.retries:
            message = f"{instance} is not well: {answer}{last_words(engine, instance)}"
            raise BoxwrightError("deploy.unhealthy", message, hint="'boxwright logs' shows what it wrote")
        if cancelled():
            raise KeyboardInterrupt
        time.sleep(pause)
        pause = check.interval if late else min(pause * 1.3, check.interval)


def await_end(engine: DeployEngine, instance: str, spec: InstanceSpec, cancelled: Callable[[], bool]) -> None:
    """Until it has ended with 0. Raises BoxwrightError `deploy.ended`."""
    while engine.state(instance).state == RUNNING:
        if cancelled():
            raise KeyboardInterrupt
        time.sleep(_FIRST_PAUSE)
    _require_running(engine, instance, spec)


def _require_running(engine: DeployEngine, instance: str, spec: InstanceSpec) -> str:
    """Its state, where it runs or is done."""
    found = engine.state(instance)
    if found.state == RUNNING or is_done(spec, found.exit_code):
        return found.state
    status = "" if found.exit_code is None else f" with status {found.exit_code}"
    raise BoxwrightError("deploy.ended", f"{instance} has ended{status}{last_words(engine, instance)}")


def last_words(engine: DeployEngine, instance: str) -> str:
    """The end of what it wrote, on lines of its own; empty where there is nothing."""
    try:
        said = b"".join(engine.logs(instance, lambda: False))
    except (BoxwrightError, OSError):
        return ""
    text = said[-_LAST_WORDS:].decode(errors="replace").strip()
    return f"\n{text}" if text else ""


def ask(engine: DeployEngine, instance: str, spec: InstanceSpec) -> str:
    """Once; empty where it is well, else what was wrong."""
    check = spec.health
    try:
        if check.kind == "command":
            done = engine.execute(instance, with_secrets(spec, check.command), check.timeout)
            return "" if done.status == 0 else f"its check ended with status {done.status}"
        if check.kind == "tcp":
            engine.exchange(instance, check.port, b"", check.timeout)
            return ""
        return _ask_http(engine, instance, check)
    except OSError as error:
        return f"port {check.port}: {error.strerror or error}"
    except BoxwrightError as error:
        return error.message


def _ask_http(engine: DeployEngine, instance: str, check: Check) -> str:
    request = f"GET {check.path} HTTP/1.0\r\nHost: localhost\r\nUser-Agent: boxwright\r\nConnection: close\r\n\r\n"
    answer = engine.exchange(instance, check.port, request.encode("ascii", "replace"), check.timeout)
    words = answer.split(b"\r\n", 1)[0].decode("latin-1").split()
    good = len(words) > 1 and words[0].startswith("HTTP/") and words[1].isdecimal() and 200 <= int(words[1]) < 400
    return "" if good else f"{check.path} answers {' '.join(words[1:]) or 'nothing'}"
