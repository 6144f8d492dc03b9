"""A member of a cluster is emptied for maintenance, and taken back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from boxwright.app.stacks.contents import StackContents
from boxwright.app.stacks.deployment import SETTLED, apply_noted, last_release, prepare_deployment
from boxwright.app.stacks.destroying import is_being_destroyed
from boxwright.app.stacks.engines import open_deploy_engine
from boxwright.deploy.applying import Limits, Progress
from boxwright.deploy.engine import DeployEngine
from boxwright.deploy.history import read_releases
from boxwright.engines.lxdclient.address import find_endpoint
from boxwright.engines.lxdclient.client import LxdClient
from boxwright.engines.lxdclient.cluster import change_member, find_member, mark_draining, members, require_cluster
from boxwright.errors import BoxwrightError
from boxwright.store.store import Store

PATIENCE = 600.0
"""Seconds for which it is waited for the lock of a stack: `watch` may be moving its instances already."""
Tell = Callable[[Progress], None]


def evacuate_member(store: Store, remote: str, name: str, tell: Tell) -> None:
    """Start its stacks' instances elsewhere, one after the other, then let LXD move or stop what is left.

    What has a volume there is stopped, and waits. Raises BoxwrightError `cluster.no-member`, `cluster.last-member`.
    """
    with _opened(remote) as client:
        state = find_member(client, name).state
        if state == "evacuated":
            return
        if not any(it.state == "online" and it.name != name for it in members(client)):
            raise BoxwrightError("cluster.last-member", f"no other member than {name} takes instances")
        mark_draining(client, name, draining=True)
        try:
            _settle_all(store, remote, f"evacuate {name}", tell)
            change_member(client, name, "evacuate")
        except BaseException:
            mark_draining(client, name, draining=False)
            raise


def restore_member(store: Store, remote: str, name: str, tell: Tell) -> None:
    """Let it take instances again; those that waited for it are started. Raises BoxwrightError `cluster.no-member`."""
    with _opened(remote) as client:
        if find_member(client, name).state == "evacuated":
            change_member(client, name, "restore")
        mark_draining(client, name, draining=False)
        _settle_all(store, remote, f"restore {name}", tell)


@contextmanager
def _opened(remote: str) -> Iterator[LxdClient]:
    with LxdClient(find_endpoint(remote, os.environ)) as client:
        require_cluster(client)
        yield client


def _settle_all(store: Store, remote: str, why: str, tell: Tell) -> None:
    """Make every stack of the cluster what its last release says, on the members that are there now."""
    with open_deploy_engine("lxd", store, remote=remote) as engine:
        for stack in engine.stacks():
            if read_releases(engine, stack):
                _settle(engine, stack, why, tell)


def _settle(engine: DeployEngine, stack: str, why: str, tell: Tell) -> None:
    with engine.lock(stack, PATIENCE):
        if is_being_destroyed(engine, stack):
            return
        desired = last_release(engine, stack).desired
        prepared = prepare_deployment(engine, desired, StackContents(engine, stack, {}), (), patience=SETTLED)
        if prepared.plan.work:
            apply_noted(engine, prepared, why, tell, Limits(1))
