"""What LXD remembers of stacks: a project for each, whose configuration holds the documents."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, NamedTuple

from boxwright.engines.deploy.lxdlease import Lease
from boxwright.engines.lxdclient.client import LxdClient
from boxwright.engines.lxdclient.cluster import is_clustered
from boxwright.engines.lxdclient.failures import LxdError
from boxwright.model.deployment import LABEL

USER = "user."
DOCUMENT = f"{USER}boxwright."
STACK = f"{USER}{LABEL}stack"


class LxdHooks(NamedTuple):
    """What the engine is given from elsewhere.

    `load` brings an image of the store as this alias; `ids` are the numbers of a user of an image; `lock` is held while
    a stack is changed; `executed` and `state` make the values that deployments know.
    """

    load: Callable[[LxdClient, str, str], None]
    ids: Callable[[str, str], tuple[int, int]]
    lock: Callable[[str, float], AbstractContextManager[None]]
    executed: Callable[[int, bytes], Any]
    state: Callable[[str, int | None], Any]


class LxdMemory:
    """The stacks that a server or a cluster knows, and what it remembers of them."""

    def __init__(self, client: LxdClient, hooks: LxdHooks) -> None:
        self._client = client
        self._hooks = hooks
        self._leases: dict[str, Lease] = {}
        self._is_clustered: bool | None = None

    @property
    def clustered(self) -> bool:
        """Whether the server is a member of a cluster."""
        if self._is_clustered is None:
            self._is_clustered = is_clustered(self._client)
        return self._is_clustered

    def _within(self, stack: str) -> LxdClient:
        return self._client.within(self._project(stack))

    @staticmethod
    def _project(stack: str) -> str:
        return f"boxwright-{stack}"

    def _of(self, instance: str) -> LxdClient:
        """The project of an instance: the longest stack whose name it begins with."""
        stacks = [it for it in self.stacks() if instance.startswith(f"{it}-")]
        return self._within(max(stacks, key=len, default=instance.partition("-")[0]))

    def stacks(self) -> Sequence[str]:
        """Those that have a project."""
        projects = self._client.get("/projects", recursion="1")
        return tuple(it["config"][STACK] for it in projects if STACK in it.get("config", {}))

    @contextmanager
    def lock(self, stack: str, patience: float) -> Iterator[None]:
        """Held while a stack is changed: on this machine, and over all members of a cluster. Its project is made."""
        with self._hooks.lock(stack, patience):
            self._make_project(stack)
            if not self.clustered:
                yield
                return
            lease = self._leases.setdefault(stack, Lease(self._client, stack))
            with lease.held(patience):
                yield

    def _make_project(self, stack: str) -> None:
        if self._client.find(f"/projects/{self._project(stack)}") is None:
            features = {
                "features.images": "false",
                "features.profiles": "false",
                "features.storage.volumes": "true",
                STACK: stack,
            }
            with suppress(LxdError):
                self._client.run("POST", "/projects", {"name": self._project(stack), "config": features})

    def read_document(self, stack: str, name: str) -> bytes | None:
        """What was written under a name."""
        found = self._client.find(f"/projects/{self._project(stack)}")
        text = (found or {}).get("config", {}).get(f"{DOCUMENT}{name}")
        return base64.b64decode(text) if text else None

    def write_document(self, stack: str, name: str, data: bytes | None) -> None:
        """Keep something under a name."""
        path = f"/projects/{self._project(stack)}"
        found, tag = self._client.etag(path)
        config = dict(found["config"])
        config.pop(f"{DOCUMENT}{name}", None)
        if data is not None:
            config[f"{DOCUMENT}{name}"] = base64.b64encode(data).decode()
        body = {"config": config, "description": found.get("description", "")}
        self._client.run("PUT", path, body, etag=tag)

    def forget(self, stack: str, *, keep_secrets: bool) -> None:
        """Remove the project; where volumes stay, all of its memory but the secrets."""
        path = f"/projects/{self._project(stack)}"
        found = self._client.find(path)
        if found is None:
            return
        if not keep_secrets:
            self._client.run("DELETE", path)
            if self.clustered:
                Lease(self._client, stack).remove()
            return
        for key in found["config"]:
            if key.startswith(DOCUMENT) and key != f"{DOCUMENT}secrets":
                self.write_document(stack, key.removeprefix(DOCUMENT), None)
