"""A server that keeps volumes in memory as LXD does, and the program that uses it can be killed at any change.

A refresh removes the snapshots that the source has no more, before it sends anything: LXD does so too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, BinaryIO, NamedTuple

from boxwright.engines.deploy.lxd import LxdStacks
from boxwright.engines.deploy.lxdmemory import LxdHooks
from boxwright.engines.lxdclient.failures import LxdError
from tests.unit.deploy.memory import KilledError

POOL = "/storage-pools/default/volumes/custom"
TORN = "torn"
STACK = "shop"


class Kept(NamedTuple):
    """A volume: what is in it, and in its snapshots."""

    content: str
    snapshots: dict[str, str]


class Endpoint(NamedTuple):
    name: str = "memory"
    socket: str = "/socket"
    project: str = ""


class MemoryLxd:
    """The client of one; every project is the stack's."""

    endpoint = Endpoint()
    project = ""

    def __init__(self) -> None:
        self.volumes: dict[tuple[str, str], Kept] = {}
        self.instances: dict[str, dict[str, Any]] = {}
        self.config: dict[str, str] = {"user.dev.boxwright.stack": STACK}
        self.operations: dict[str, list[dict[str, Any]]] = {}
        self.fails: Callable[[str], LxdError | None] = lambda _: None
        self.failing: range = range(0)
        self.code = "lxd.refused"
        self.changes = 0
        self.killed_at = -1
        self.log: list[str] = []
        self._sent = ("", "")

    def within(self, project: str) -> MemoryLxd:
        del project
        return self

    def _change(self, what: str) -> None:
        self.changes += 1
        if 0 <= self.killed_at < self.changes:
            raise KilledError(what)
        self.log.append(what)
        error = LxdError(self.code, f"{what} fails") if self.changes in self.failing else self.fails(what)
        if error is not None:
            raise error

    # What is there ----------------------------------------------------------------------------------------------------

    def get(self, path: str, /, **query: str) -> Any:
        del query
        return {
            "": {"environment": {"server_clustered": False, "certificate": "", "server_name": "n1"}},
            "/cluster/members": [
                {"server_name": it, "url": f"https://{it}:8443", "status": "Online"} for it in ("n1", "n2")
            ],
            "/storage-pools": ["/1.0/storage-pools/default"],
            "/operations": self.operations,
            "/instances": list(self.instances.values()),
            "/networks": [],
            "/projects": [{"name": f"boxwright-{STACK}", "config": self.config}],
            POOL: self._listed(),
        }[path]

    def _listed(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for (name, member), kept in self.volumes.items():
            names = (name, *(f"{name}/{it}" for it in kept.snapshots))
            found += [{"name": it, "location": member or "none", "config": {}} for it in names]
        return found

    def find(self, path: str, /, **query: str) -> Any:
        if path.startswith("/projects/"):
            return {"config": dict(self.config)}
        if path.startswith("/instances/"):
            return self.instances.get(path.rpartition("/")[2])
        return self.get(path, **query)

    def etag(self, path: str) -> tuple[dict[str, Any], str]:
        return self.find(path), ""

    # Changes ----------------------------------------------------------------------------------------------------------

    def run(
        self, method: str, path: str, body: Any = None, *, query: Mapping[str, str] | None = None, etag: str = ""
    ) -> dict[str, Any]:
        del etag
        member = (query or {}).get("target", "")
        if path.startswith("/projects/"):
            self._change("document")
            self.config = body["config"]
        elif path.startswith("/instances/"):
            self._change("turn")
            self.instances[path.rpartition("/")[2]]["devices"] |= body["devices"]
        elif path == POOL:
            self._make(body, member)
        else:
            self._change_volume(method, path.removeprefix(f"{POOL}/"), body, member)
        return {}

    def _change_volume(self, method: str, name: str, body: Any, member: str) -> None:
        name, _, rest = name.partition("/snapshots")
        if (name, member) not in self.volumes:
            raise missing(name)
        kept = self.volumes[name, member]
        if method == "POST":
            self._change(f"snapshot {name}")
            assert body["name"] not in kept.snapshots
            kept.snapshots[body["name"]] = kept.content
        elif rest:
            self._change(f"delete {name}{rest}")
            kept.snapshots.pop(rest[1:])
        elif method == "DELETE":
            self._change(f"delete {name}")
            users = [it for it in self.instances.values() if name in {x["source"] for x in it["devices"].values()}]
            assert not users, f"{name} is in use"
            del self.volumes[name, member]

    def _make(self, body: Mapping[str, Any], member: str) -> None:
        name, source = body["name"], body["source"]
        if source["type"] == "copy":
            self._change(f"copy {name}")
            of, _, snapshot = source["name"].partition("/")
            self.volumes[name, member] = Kept(TORN, {})
            self._change("copied")
            self.volumes[name, member] = Kept(self.volumes[of, member].snapshots[snapshot], {})
            return
        self._migrate(self.volumes[self._sent], (name, member), refresh=source["refresh"])

    def _migrate(self, source: Kept, target: tuple[str, str], *, refresh: bool) -> None:
        self._change(f"migrate {target[0]} {'refresh' if refresh else 'whole'}")
        if not refresh:
            assert target not in self.volumes
            self.volumes[target] = Kept(TORN, {})
        there = self.volumes[target]
        for it in [it for it in there.snapshots if it not in source.snapshots]:
            del there.snapshots[it]
        missing = [it for it in source.snapshots if it not in there.snapshots]
        self.volumes[target] = Kept(TORN, there.snapshots)
        try:
            self._change("sending")
            for it in missing:
                there.snapshots[it] = source.snapshots[it]
            self._change("sent snapshots")
        except LxdError:
            for it in missing:
                there.snapshots.pop(it, None)
            if not refresh:
                del self.volumes[target]
            raise
        self.volumes[target] = Kept(source.content, there.snapshots)

    def request(
        self, method: str, path: str, body: Any = None, *, query: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        assert (method, body["migration"]) == ("POST", True)
        self._sent = (path.removeprefix(f"{POOL}/"), (query or {}).get("target", ""))
        if self._sent not in self.volumes:
            raise missing(path)
        return {"operation": "/1.0/operations/1", "metadata": {"metadata": {}}}

    def send(
        self,
        method: str,
        path: str,
        file: BinaryIO,
        *,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str],
        patience: object,
    ) -> tuple[int, bytes]:
        """A backup."""
        del method, path, patience
        target = (headers["X-LXD-name"], (query or {}).get("target", ""))
        if target in self.volumes:
            raise LxdError("lxd.exists", "there is one already")
        self._change("import")
        self.volumes[target] = Kept(TORN, {})
        self._change("importing")
        self.volumes[target] = Kept(file.read().decode(), {})
        return 200, b"{}"

    def answer(self, what: str, answered: tuple[int, bytes]) -> dict[str, Any]:
        del what
        found: dict[str, Any] = json.loads(answered[1])
        return found

    def operation_of(self, answer: object) -> str:
        del answer
        return "1"

    def wait(self, operation: str, what: str) -> None:
        self._change("wait")

    def cancel(self, operation: str) -> None:
        pass

    def change_state(self, instance: str, action: str, **more: object) -> None:
        del more
        self._change(f"{action} {instance}")
        self.instances[instance]["status"] = "Running" if action == "start" else "Stopped"


def missing(what: str) -> LxdError:
    return LxdError("lxd.not-found", f"there is no {what}", status=404)


def engine_of(client: MemoryLxd) -> LxdStacks:
    """A program that begins: it remembers nothing."""
    hooks = LxdHooks(
        load=lambda *_: None,
        ids=lambda *_: (0, 0),
        lock=lambda *_: nullcontext(),
        executed=lambda *_: None,
        state=lambda *it: it,
    )
    return LxdStacks(client, hooks)  # type: ignore[arg-type]
