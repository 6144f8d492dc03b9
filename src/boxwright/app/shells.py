"""A shell in the state that a step starts from. What is done in it is thrown away."""

from __future__ import annotations

import os
from typing import NamedTuple

from boxwright.app.build import Build
from boxwright.app.privileges import ensure_privileges
from boxwright.app.sandboxes import LateSandbox
from boxwright.errors import BoxwrightError
from boxwright.model.digest import Digest
from boxwright.model.image import Snapshot
from boxwright.model.step import Run
from boxwright.model.tree import FILE
from boxwright.ports import SandboxSpec
from boxwright.store.store import Store

SHELLS = ("bin/bash", "bin/ash", "bin/sh")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ShellRequest(NamedTuple):
    """In which state a shell is opened, and as whom. Without `argv` it is the best shell of the tree."""

    state: Digest
    argv: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = "/"
    user: str = ""
    network: str = "default"
    security: str = "sandbox"


def request_for(build: Build, position: int) -> ShellRequest | None:
    """The shell before a RUN step: what the step was given. None where there is no state to open one in."""
    node = build.graph.nodes[position]
    if not node.inputs:
        return None
    state = build.keys.of(node.inputs[0]).key
    snapshot = build.keys.snapshot(node.inputs[0])
    if state is None or snapshot is None or not snapshot.layers:  # an engine holds it, not the store
        return None
    step = node.step
    if not isinstance(step, Run):
        return ShellRequest(state)
    return ShellRequest(state, env=step.env, cwd=step.cwd, user=step.user, network=step.network, security=step.security)


def find_state(store: Store, given: str) -> Digest:
    """The key of a recorded state from its beginning (at least six digits) or from an image's name."""
    wanted = given if given.startswith("sha256:") else f"sha256:{given}"
    if len(wanted) >= len("sha256:") + 6:
        rows = store.index.all("SELECT key FROM snapshots WHERE key>=? AND key<?", (wanted, wanted + "g"))
        if len(rows) == 1:
            return Digest(rows[0][0])
        if rows:
            raise BoxwrightError("state.ambiguous", f"{given} is the beginning of {len(rows)} states' keys")
    raise BoxwrightError(
        "state.unknown", f"no state {given!r} is recorded", hint="build again: a failed step prints the state's key"
    )


def open_shell(store: Store, request: ShellRequest, sandbox: LateSandbox, *, terminal: bool) -> int:
    """Open it on the caller's standard streams; returns its exit status. For a process with one thread."""
    snapshot = store.snapshot(request.state)
    if snapshot is None:
        raise BoxwrightError("state.unknown", f"no state {request.state} is recorded", hint="build again")
    argv = request.argv or (_shell(store, snapshot),)
    if "PATH" not in dict(request.env):
        request = request._replace(env=(*request.env, ("PATH", PATH)))
    env = (*request.env, ("TERM", os.environ.get("TERM", "dumb"))) if terminal else request.env
    ensure_privileges()
    launcher = sandbox.start()
    try:
        with store.draft(snapshot) as draft:
            spec = SandboxSpec(
                layers_directory=store.home.layers,
                lowers=snapshot.layers,
                upper=draft.upper,
                work=draft.work,
                argv=argv,
                env=env,
                cwd=request.cwd,
                user=request.user,
                network=request.network,
                security=request.security,
                terminal=terminal,
            )
            return launcher.interactive(spec).code
    finally:
        sandbox.close()


def _shell(store: Store, snapshot: Snapshot) -> str:
    for path in SHELLS:
        entry = store.locate(snapshot.manifest, path).entry
        if entry is not None and entry.kind == FILE and entry.mode & 0o111:
            return f"/{path}"
    raise BoxwrightError("state.no-shell", "this state holds no shell", hint="name a program that is in it after --")
