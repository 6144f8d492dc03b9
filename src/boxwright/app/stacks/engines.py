"""Picks the engine that a stack is deployed on, and gives it what it needs of the other rooms."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from boxwright.deploy.engine import DeployEngine, Executed, State
from boxwright.model.stack import NATIVE
from boxwright.store.store import Store


@contextmanager
def open_deploy_engine(name: str, store: Store, *, remote: str = "", look: bool = False) -> Iterator[DeployEngine]:
    """An engine by its name. For a process with one thread, which stays what it is where it is only to `look`."""
    if name == NATIVE:
        from boxwright.app.stacks.native import open_native

        with open_native(store, look=look) as native:
            yield native
    elif name in ("podman", "docker"):
        yield _oci(name, store)
    elif name == "lxc":
        from boxwright.app.stacks.lxc import LxcStacks

        yield LxcStacks(store)
    else:
        with _lxd(store, remote) as lxd:
            yield lxd


def _oci(name: str, store: Store) -> DeployEngine:
    from boxwright.engines.deploy.oci import DockerStacks, Hooks, OciStacks
    from boxwright.engines.deploy.program import Program
    from boxwright.sandbox.reach import connect_inside

    one_at_a_time = threading.Lock()

    def load_image(identity: str, reference: str) -> None:
        from boxwright.app.lookup import find_image
        from boxwright.images.load import load

        with one_at_a_time:
            load(find_image(store, identity), store, name, name=reference)

    hooks = Hooks(load_image, connect_inside, Executed, State)
    kind = OciStacks if name == "podman" else DockerStacks
    return kind(name, Program(name), hooks)


@contextmanager
def _lxd(store: Store, remote: str) -> Iterator[DeployEngine]:
    from boxwright.app.stacks.lxdimages import load_image
    from boxwright.app.stacks.users import user_of
    from boxwright.engines.deploy.lxd import LxdStacks
    from boxwright.engines.deploy.lxdmemory import LxdHooks
    from boxwright.engines.documents import StackDirectory
    from boxwright.engines.lxdclient.address import find_endpoint
    from boxwright.engines.lxdclient.client import LxdClient

    directory = StackDirectory(lambda stack: f"{store.home.root}/stacks/lxd.{stack}")
    hooks = LxdHooks(
        lambda client, identity, alias: load_image(store, client, identity, alias),
        lambda identity, user: user_of(store, identity, user)[:2],
        directory.lock,
        Executed,
        State,
    )
    with LxdClient(find_endpoint(remote, os.environ)) as client:
        yield LxdStacks(client, hooks, remote=remote)
