"""What LXD remembers of stacks: a project for each, whose configuration holds the documents."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, NamedTuple

from boxwright.engines.deploy.lxdlease import Lease
from boxwright.engines.deploy.lxdseal import SEALED, Seal
from boxwright.engines.lxdclient.client import LxdClient
from boxwright.engines.lxdclient.failures import LxdError
from boxwright.model.deployment import LABEL

USER = "user."
DOCUMENT = f"{USER}boxwright."
_BUSY_SECONDS = 60.0
_LOOK_SECONDS = 0.3
_WRITES = 10
"""How often a document is written again, where somebody else changes others at the same time."""
_NOTE = "instance."
_WITH_VOLUMES = ("secrets", "volumes")
"""Documents that stay as long as volumes do."""
_SEALED = ("secrets", "content-")
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


class InstanceNote(NamedTuple):
    """An instance's addresses by network; whose its first process is (image and user), and that user's numbers."""

    addresses: tuple[tuple[str, str], ...]
    account: str = ""
    ids: tuple[int, int] | None = None


class LxdMemory:
    """The stacks that a server or a cluster knows, and what it remembers of them."""

    def __init__(self, client: LxdClient, hooks: LxdHooks) -> None:
        self._client = client
        self._hooks = hooks
        self._writing = threading.Lock()
        self._leases: dict[str, Lease] = {}
        self._seal = Seal(client)
        self._environment: dict[str, Any] = {}
        self._homes: dict[str, str] = {}

    @property
    def clustered(self) -> bool:
        """Whether the server is a member of a cluster."""
        return bool(self._server.get("server_clustered"))

    def home(self) -> str:
        """The member whose socket is asked; who asks from elsewhere is on none."""
        return str(self._server["server_name"]) if self.clustered and self._client.endpoint.socket else ""

    def machine(self) -> str:
        """That of the server; members of a cluster that run the same images are of one kind."""
        return str(self._server.get("kernel_architecture") or os.uname().machine)

    @property
    def _server(self) -> dict[str, Any]:
        """What the server says of itself."""
        if not self._environment:
            self._environment = dict(self._client.get("").get("environment") or {})
        return self._environment

    def _within(self, stack: str) -> LxdClient:
        return self._client.within(self._project(stack))

    @staticmethod
    def _project(stack: str) -> str:
        return f"boxwright-{stack}"

    def _of(self, instance: str) -> LxdClient:
        """The project of an instance: that where it was seen, else the longest stack whose name it begins with."""
        if instance in self._homes:
            return self._within(self._homes[instance])
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
        if text and text.startswith(SEALED):
            return self._seal.open(text, f"{stack} ({name})")
        return base64.b64decode(text) if text else None

    def write_document(self, stack: str, name: str, data: bytes | None) -> None:
        """Keep something under a name."""
        self.write_documents(stack, {name: data})

    def write_documents(self, stack: str, documents: Mapping[str, bytes | None]) -> None:
        """Keep several things at once, or remove those that are None."""
        path = f"/projects/{self._project(stack)}"
        texts = {f"{DOCUMENT}{name}": self._text(stack, name, data) for name, data in documents.items()}
        with self._writing:
            found, tag = self._client.etag(path)
            before = dict(found["config"])
            config = {key: value for key, value in before.items() if key not in texts}
            config |= {key: text for key, text in texts.items() if text is not None}
            if config != before:
                body = {"config": config, "description": found.get("description", "")}
                self._client.run("PUT", path, body, etag=tag)

    def change_document(self, stack: str, name: str, change: Callable[[bytes | None], bytes | None]) -> None:
        """Keep under a name what `change` makes of what is there; done again where another one wrote meanwhile.

        Who holds the stack's lock alone: LXD looks at the tag before it writes, so two members may both find it right.
        """
        path = f"/projects/{self._project(stack)}"
        for left in reversed(range(_WRITES)):
            with self._writing:
                found, tag = self._client.etag(path)
                config = dict(found["config"])
                text = config.pop(f"{DOCUMENT}{name}", None)
                before = base64.b64decode(text) if text else None
                data = change(before)
                if data == before:
                    return
                if data is not None:
                    config[f"{DOCUMENT}{name}"] = base64.b64encode(data).decode()
                body = {"config": config, "description": found.get("description", "")}
                try:
                    self._client.run("PUT", path, body, etag=tag)
                except LxdError as error:
                    if error.code != "lxd.changed" or not left:
                        raise
                else:
                    return

    def _text(self, stack: str, name: str, data: bytes | None) -> str | None:
        """Secrets, and files, of which some are certificates with their keys, are not shown to who sees the project."""
        if data is None:
            return None
        if name.startswith(_SEALED):
            return self._seal.close(data, f"{stack} ({name})")
        return base64.b64encode(data).decode()

    # Of an instance whose member does not answer, LXD tells the name alone: what must be known then is noted here.

    def _note(self, stack: str, instance: str, note: InstanceNote | None) -> None:
        """Remember, or forget, what is to be known of an instance while its member is away."""
        if self.clustered:
            text = None if note is None else json.dumps(note).encode()
            self.write_document(stack, f"{_NOTE}{instance}", text)

    def _notes(self, project: Mapping[str, Any]) -> dict[str, InstanceNote]:
        """All notes of a project."""
        beginning = f"{DOCUMENT}{_NOTE}"
        found: dict[str, InstanceNote] = {}
        for key, text in project.get("config", {}).items():
            if key.startswith(beginning):
                with suppress(ValueError, TypeError):
                    addresses, account, ids = json.loads(base64.b64decode(text))
                    pairs = tuple((str(network), str(address)) for network, address in addresses)
                    found[key.removeprefix(beginning)] = InstanceNote(pairs, account, tuple(ids) if ids else None)
        return found

    def forget(self, stack: str, *, keep_secrets: bool) -> None:
        """Remove the project; where volumes stay, all of its memory but the secrets."""
        path = f"/projects/{self._project(stack)}"
        found = self._client.find(path)
        if found is None:
            return
        if not keep_secrets:
            self._client.run("DELETE", path)
            if self.clustered:
                for lease in (stack, f"{stack}.copies"):
                    Lease(self._client, lease).remove()
            return
        keys = (
            it for it in found["config"] if it.startswith(DOCUMENT) and it.removeprefix(DOCUMENT) not in _WITH_VOLUMES
        )
        self.write_documents(stack, dict.fromkeys(it.removeprefix(DOCUMENT) for it in keys))


def document_of(project: Mapping[str, Any], name: str) -> bytes | None:
    """A document of a stack, from its project."""
    text = (project.get("config") or {}).get(f"{DOCUMENT}{name}")
    return base64.b64decode(text) if text else None


def unless_gone(work: Callable[[], object]) -> None:
    """Do it, where there is still something to do; wait while the server is busy with the end of an instance."""
    until = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            work()
        except LxdError as error:
            if error.code == "lxd.not-found":
                return
            if "busy running" not in error.message or time.monotonic() > until:
                raise
            time.sleep(_LOOK_SECONDS)
        else:
            return
