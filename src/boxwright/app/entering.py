"""A further process in a running container."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from boxwright.app.containers import engine_of
from boxwright.engines.native import NativeEngine
from boxwright.engines.records import Container
from boxwright.store.home import Home, default_root

if TYPE_CHECKING:
    from boxwright.engines.processes import ProcessMark


def execute(
    environment: Mapping[str, str],
    name: str,
    argv: tuple[str, ...],
    *,
    env: tuple[tuple[str, str], ...] = (),
    cwd: str = "",
    user: str | None = None,
    terminal: bool = False,
    stdin: bool = False,
) -> int:
    """Run a further process in a running container, on this process's streams; returns its exit status."""
    from pathlib import Path

    from boxwright.sandbox.launcher import Launcher

    home = Home(default_root(dict(environment), os.geteuid()))
    engine = engine_of(home)
    container = engine.running(name)
    config = container.config
    assert container.status is not None  # noqa: S101  for the type checker: it runs
    pid = _join(engine, container, container.status.process)
    launcher = Launcher.start(Path(home.cache))
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    given = {**dict(config.env), **({"TERM": environment.get("TERM", "dumb")} if terminal else {}), **dict(env)}
    try:
        return launcher.enter(
            pid,
            argv,
            given,
            cwd=cwd or config.cwd,
            user=config.user if user is None else user,
            on_terminal=terminal,
            fds=(0 if stdin or terminal else null, 1, 2),
        ).code
    finally:
        os.close(null)
        launcher.close()


def _join(engine: NativeEngine, container: Container, process: ProcessMark) -> int:
    """As an ordinary user, become root of the container's user namespace; returns the process to enter."""
    if os.geteuid() == 0:
        return process.pid
    from boxwright.engines.processes import parent_of
    from boxwright.sandbox.userns import join_user_namespace

    inner = engine.inner_process(container)
    keeper = parent_of(process.pid)
    join_user_namespace(keeper if keeper > 1 else inner)
    return inner
