"""Stacks on LXD and Incus: a project for each, whose configuration remembers what is to be remembered.

Instances start the image's program as their first process; their addresses are written into them before they start, so
neither a DHCP client nor an init is needed inside (LXD, doc/reference/instance_options.md, `raw.lxc`).
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from typing import Any, NamedTuple

from boxwright.engines.bridges import hardware_address, routed_subnets
from boxwright.engines.lxdclient.client import LxdClient
from boxwright.engines.lxdclient.execution import Command, execute
from boxwright.engines.lxdclient.failures import LxdError
from boxwright.engines.lxdclient.files import push_directory, push_file
from boxwright.engines.lxdclient.transport import Patience
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import (
    LABEL,
    LOST,
    RUNNING,
    STOPPED,
    Desired,
    Instance,
    Network,
    NetworkSpec,
    NewInstance,
    Observed,
    VolumeSpec,
    labelled_instance,
)

_USER = "user."
_DOCUMENT = f"{_USER}boxwright."
_STACK = f"{_USER}{LABEL}stack"
_FOLLOW_SECONDS = 0.3
_BUSY_SECONDS = 60.0
_WIDTH = 12
SCRIPT = "/.boxwright-start"
"""In an instance: its command, where that can't be said in one line."""


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


class LxdStacks:
    """The stacks of one server, or of one cluster."""

    name = "lxd"

    def __init__(self, client: LxdClient, hooks: LxdHooks, *, remote: str = "") -> None:
        self._client = client
        self._hooks = hooks
        self._remote = remote
        self._default_pool = ""

    def lacks(self, desired: Desired) -> Sequence[str]:
        """Copies need several members."""
        server = self._client.get("")
        clustered = bool((server.get("environment") or {}).get("server_clustered"))
        found: list[str] = []
        if not clustered:
            found += [f"{it.logical}: this LXD is no cluster" for it in desired.instances if it.placement.on]
            found += [f"volume {it.name}: copies need a cluster" for it in desired.volumes if it.replicate > 1]
        found += [f"network {it.name}: rules are not written yet" for it in desired.networks if it.allow or it.deny]
        return tuple(dict.fromkeys(found))

    # Names ----------------------------------------------------------------------------------------------------------

    def _within(self, stack: str) -> LxdClient:
        return self._client.within(self._project(stack))

    @staticmethod
    def _project(stack: str) -> str:
        return f"boxwright-{stack}"

    def _of(self, instance: str) -> LxdClient:
        """The project of an instance: the longest stack whose name it begins with."""
        stacks = [it for it in self.stacks() if instance.startswith(f"{it}-")]
        return self._within(max(stacks, key=len, default=instance.partition("-")[0]))

    @staticmethod
    def _bridge(stack: str, network: str) -> str:
        """The names of interfaces are short."""
        return f"bw{hashlib.sha256(f'{stack}/{network}'.encode()).hexdigest()[:_WIDTH]}"

    # The memory -------------------------------------------------------------------------------------------------------

    def stacks(self) -> Sequence[str]:
        """Those that have a project."""
        projects = self._client.get("/projects", recursion="1")
        return tuple(it["config"][_STACK] for it in projects if _STACK in it.get("config", {}))

    def lock(self, stack: str, patience: float) -> AbstractContextManager[None]:
        """Held while a stack is changed. The project is made with it."""
        if self._client.find(f"/projects/{self._project(stack)}") is None:
            features = {
                "features.images": "false",
                "features.profiles": "false",
                "features.storage.volumes": "true",
                _STACK: stack,
            }
            with suppress(LxdError):
                self._client.run("POST", "/projects", {"name": self._project(stack), "config": features})
        return self._hooks.lock(stack, patience)

    def read_document(self, stack: str, name: str) -> bytes | None:
        """What was written under a name."""
        found = self._client.find(f"/projects/{self._project(stack)}")
        text = (found or {}).get("config", {}).get(f"{_DOCUMENT}{name}")
        return base64.b64decode(text) if text else None

    def write_document(self, stack: str, name: str, data: bytes | None) -> None:
        """Keep something under a name."""
        path = f"/projects/{self._project(stack)}"
        found, tag = self._client.etag(path)
        config = dict(found["config"])
        config.pop(f"{_DOCUMENT}{name}", None)
        if data is not None:
            config[f"{_DOCUMENT}{name}"] = base64.b64encode(data).decode()
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
            return
        for key in found["config"]:
            if key.startswith(_DOCUMENT) and key != f"{_DOCUMENT}secrets":
                self.write_document(stack, key.removeprefix(_DOCUMENT), None)

    # What is there ----------------------------------------------------------------------------------------------------

    def observe(self, stack: str) -> Observed:
        """By the project, and by the keys of instances and networks."""
        if self._client.find(f"/projects/{self._project(stack)}") is None:
            instances: list[dict[str, Any]] = []
            volumes: list[str] = []
        else:
            instances = self._within(stack).get("/instances", recursion="2")
            volumes = self._volumes(stack)
        networks = [it for it in self._client.get("/networks", recursion="1") if it.get("managed")]
        own = [it for it in networks if it.get("config", {}).get(_STACK) == stack]
        subnets = [_subnet(it) for it in networks if it not in own]
        return Observed(
            tuple(found for it in instances if (found := _instance(it)) is not None),
            tuple(Network(it["config"][f"{_USER}{LABEL}network"], _subnet(it)) for it in own),
            tuple(volumes),
            (*(it for it in subnets if it), *routed_subnets()),
            self._members(),
        )

    def _members(self) -> tuple[str, ...]:
        """The members of a cluster that take instances; none for one host."""
        server = self._client.get("")
        if not (server.get("environment") or {}).get("server_clustered"):
            return ()
        members = self._client.get("/cluster/members", recursion="1")
        return tuple(sorted(it["server_name"] for it in members if it.get("status") == "Online"))

    def _volumes(self, stack: str) -> list[str]:
        found: list[str] = []
        for pool in self._client.get("/storage-pools", recursion="1"):
            path = f"/storage-pools/{pool['name']}/volumes/custom"
            found += [it["name"] for it in self._within(stack).get(path, recursion="1")]
        return sorted(found)

    def state(self, instance: str) -> Any:  # noqa: ANN401  as the hook makes it
        """What an instance does now. LXD does not know with which status a program ended."""
        found = self._of(instance).find(f"/instances/{instance}")
        return self._hooks.state(_state(found) if found else LOST, None)

    # Images, networks, volumes ----------------------------------------------------------------------------------------

    def provide_image(self, identity: str, name: str) -> None:
        """Load it from the store where it is not there."""
        del name
        alias = _alias(identity)
        if self._client.find(f"/images/aliases/{alias}") is None:
            self._hooks.load(self._client, identity, alias)

    def drop_images(self, stack: str, identities: Sequence[str]) -> None:
        """Remove images; instances don't need them any more once they are made."""
        del stack
        for identity in identities:
            found = self._client.find(f"/images/aliases/{_alias(identity)}")
            if found is not None:
                path = f"/images/{found['target']}"
                _unless_gone(lambda path=path: self._client.run("DELETE", path))  # type: ignore[misc]

    def create_network(self, stack: str, spec: NetworkSpec) -> None:
        """A bridge without DHCP: addresses are given out by the deployment."""
        subnet = ipaddress.IPv4Network(spec.subnet)
        config = {
            "ipv4.address": f"{subnet[1]}/{subnet.prefixlen}",
            "ipv4.nat": "false" if spec.internal else "true",
            "ipv4.dhcp": "false",
            "ipv6.address": "none",
            "dns.mode": "none",
            _STACK: stack,
            f"{_USER}{LABEL}network": spec.name,
        }
        if spec.internal:
            config["ipv4.routing"] = "false"
        body = {"name": self._bridge(stack, spec.name), "type": "bridge", "config": config}
        self._client.run("POST", "/networks", body)

    def delete_network(self, stack: str, name: str) -> None:
        """Remove it."""
        _unless_gone(lambda: self._client.run("DELETE", f"/networks/{self._bridge(stack, name)}"))

    def create_volume(self, stack: str, spec: VolumeSpec) -> None:
        """A custom volume; the pool `default` is the one of the default profile."""
        config = {"size": str(spec.size)} if spec.size else {}
        body = {"name": spec.name, "config": config, "type": "custom"}
        self._within(stack).run("POST", f"/storage-pools/{self._pool(spec.pool)}/volumes/custom", body)

    def _pool(self, name: str) -> str:
        pools = [it["name"] for it in self._client.get("/storage-pools", recursion="1")]
        if name in pools:
            return name
        if name and name != "default":
            hint = f"there is {', '.join(pools) or 'none'}; lxc storage create makes one"
            raise BoxwrightError("deploy.pool", f"there is no storage pool {name}", hint=hint)
        if not self._default_pool:
            profile = self._client.find("/profiles/default") or {}
            disks = [it for it in profile.get("devices", {}).values() if it.get("path") == "/" and it.get("pool")]
            self._default_pool = disks[0]["pool"] if disks else pools[0] if pools else ""
        if not self._default_pool:
            raise BoxwrightError("deploy.pool", "this LXD has no storage pool", hint="lxd init makes one")
        return self._default_pool

    def delete_volume(self, stack: str, name: str) -> None:
        """Remove it with its content."""
        pool = self._pool_of(stack, name)
        if pool:
            _unless_gone(lambda: self._within(stack).run("DELETE", f"/storage-pools/{pool}/volumes/custom/{name}"))

    def _pool_of(self, stack: str, volume: str) -> str:
        for pool in self._client.get("/storage-pools", recursion="1"):
            if self._within(stack).find(f"/storage-pools/{pool['name']}/volumes/custom/{volume}") is not None:
                return str(pool["name"])
        return ""

    # Instances --------------------------------------------------------------------------------------------------------

    def create(self, new: NewInstance) -> None:
        """Make it with its devices and files; nothing is started."""
        self.delete(new.name)
        client = self._within(new.stack)
        body = {
            "name": new.name,
            "type": "container",
            "source": {"type": "image", "alias": _alias(new.spec.image)},
            "profiles": [],
            "config": self._config(new),
            "devices": self._devices(new),
        }
        client.run("POST", "/instances", body, query={"target": new.member} if new.member else None)
        made: set[str] = set()
        push_file(client, new.name, "/etc/hosts", new.hosts.encode(), mode=0o644)
        if _needs_script(new.spec.argv):
            script = f"#!/bin/sh\nexec {shlex.join(new.spec.argv)}\n"
            push_file(client, new.name, SCRIPT, script.encode("utf-8", "surrogateescape"), mode=0o755)
        for path, data, mode in new.files:
            for directory in _parents(path):
                if directory not in made:
                    push_directory(client, new.name, directory)
                    made.add(directory)
            push_file(client, new.name, path, data, mode=mode)

    def _config(self, new: NewInstance) -> dict[str, str]:
        spec = new.spec
        lines = [
            f"lxc.init.cmd = {SCRIPT if _needs_script(spec.argv) else ' '.join(spec.argv)}",
            f"lxc.init.cwd = {spec.directory or '/'}",
        ]
        lines.append(f"lxc.uts.name = {spec.logical}")
        if spec.user:
            uid, gid = self._hooks.ids(spec.image, spec.user)
            lines += [f"lxc.init.uid = {uid}", f"lxc.init.gid = {gid}"]
        if spec.stop_signal:
            lines.append(f"lxc.signal.halt = {spec.stop_signal}")
        else:
            lines.append("lxc.signal.halt = SIGTERM")
        for number, (network, address) in enumerate(new.addresses):
            subnet = ipaddress.IPv4Network(self._subnet_of(new.stack, network))
            lines.append(f"lxc.net.{number}.ipv4.address = {address}/{subnet.prefixlen}")
            if number == 0:
                lines.append(f"lxc.net.0.ipv4.gateway = {subnet[1]}")
        config = {f"{_USER}{key}": value for key, value in new.labels}
        config |= {f"environment.{key}": value for key, value in new.env}
        return {**config, "raw.lxc": "\n".join(lines), "boot.autostart": "false"}

    def _subnet_of(self, stack: str, network: str) -> str:
        return _subnet(self._client.get(f"/networks/{self._bridge(stack, network)}"))

    def _devices(self, new: NewInstance) -> dict[str, dict[str, str]]:
        devices: dict[str, dict[str, str]] = {"root": {"type": "disk", "path": "/", "pool": self._pool("default")}}
        for number, (network, address) in enumerate(new.addresses):
            devices[f"eth{number}"] = {
                "type": "nic",
                "network": self._bridge(new.stack, network),
                "name": f"eth{number}",
                "hwaddr": hardware_address(address),
            }
        for number, it in enumerate(new.spec.mounts):
            device = {"type": "disk", "path": it.target, "readonly": "true" if it.read_only else "false"}
            if it.kind == "path":
                devices[f"path{number}"] = {**device, "source": os.path.abspath(it.source)}
            elif it.kind == "volume":
                pool = self._pool_of(new.stack, it.source)
                devices[f"volume{number}"] = {**device, "source": it.source, "pool": pool}
        inside = new.addresses[0][1] if new.addresses else "127.0.0.1"
        for number, published in enumerate(new.spec.ports):
            port = published.port
            host = port.host or _free_port()
            devices[f"port{number}"] = {
                "type": "proxy",
                "listen": f"{port.protocol}:{published.address or '0.0.0.0'}:{host}",  # noqa: S104  as other engines
                "connect": f"{port.protocol}:{inside}:{port.container}",
            }
        return devices

    def start(self, instance: str) -> None:
        """Start it."""
        self._of(instance).change_state(instance, "start")

    def stop(self, instance: str, seconds: float) -> None:
        """Ask it to end; kill it after `seconds`."""
        client = self._of(instance)
        found = client.find(f"/instances/{instance}")
        if found is None or _state(found) != RUNNING:
            return
        try:
            if seconds > 0:
                client.change_state(instance, "stop", seconds=max(1, round(seconds)))
                return
        except LxdError:
            pass  # it does not end by itself
        found = client.find(f"/instances/{instance}")
        if found is not None and _state(found) == RUNNING:
            _unless_gone(lambda: client.change_state(instance, "stop", force=True))

    def delete(self, instance: str) -> None:
        """Remove it, running or not."""
        self.stop(instance, 0)
        _unless_gone(lambda: self._of(instance).run("DELETE", f"/instances/{instance}"))

    # Inside an instance -----------------------------------------------------------------------------------------------

    def execute(self, instance: str, argv: Sequence[str], timeout: float, stdin: bytes = b"") -> Any:  # noqa: ANN401  the hook's
        """Run a command in a running instance as root."""
        said: list[bytes] = []
        command = Command(tuple(argv), {}, stdin=stdin)
        status = execute(self._of(instance), instance, command, said.append, said.append, Patience(timeout))
        return self._hooks.executed(status, b"".join(said))

    def attach(self, instance: str, argv: Sequence[str], *, terminal: bool, stdin: bool) -> int:
        """The same on this process's own streams, by LXD's own client."""
        program = shutil.which("lxc") or shutil.which("incus")
        if program is None:
            raise BoxwrightError(
                "deploy.engine-missing", "the program lxc is missing", hint="apt-get install lxd-client"
            )
        where = f"{self._remote}:{instance}" if self._remote else instance
        mode = "interactive" if terminal else "non-interactive"
        words = [program, "exec", where, "--project", self._of(instance).project, f"--mode={mode}", "--", *argv]
        return subprocess.run(words, stdin=None if stdin or terminal else subprocess.DEVNULL, check=False).returncode

    def logs(self, instance: str, follow: Callable[[], bool]) -> Iterator[bytes]:
        """What it wrote to its console."""
        client = self._of(instance)
        shown = 0
        while True:
            more = follow()
            status, data = client.send("GET", f"/instances/{instance}/console", None)
            text = data if status == 200 else b""
            if len(text) < shown:
                shown = 0  # it was started again
            if text[shown:]:
                yield text[shown:].replace(b"\r\n", b"\n")
                shown = len(text)
            if not more or self.state(instance).state != RUNNING:
                return
            time.sleep(_FOLLOW_SECONDS)

    def connect(self, instance: str, port: int, timeout: float) -> socket.socket:
        """Over the bridge, which this machine is on."""
        found = self._of(instance).find(f"/instances/{instance}")
        parsed = _instance(found) if found else None
        if parsed is None or parsed.state != RUNNING or not parsed.addresses:
            raise OSError("it does not run")
        return socket.create_connection((parsed.addresses[0][1], port), timeout)

    def put(self, instance: str, path: str, data: bytes) -> None:
        """Replace a file in it."""
        push_file(self._of(instance), instance, path, data, mode=0o444)

    def publish_names(self, stack: str, hosts: str) -> None:
        """Write /etc/hosts into every instance that runs."""
        client = self._within(stack)
        names = [it["name"] for it in client.get("/instances", recursion="1") if _state(it) == RUNNING]

        def write(name: str) -> None:
            with suppress(LxdError):  # it has just ended: it gets its names when it is made again
                push_file(client, name, "/etc/hosts", hosts.encode(), mode=0o644)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, names))


def _needs_script(argv: Sequence[str]) -> bool:
    """LXC splits its one line at white space, whatever quotes are there."""
    return any(not word or word.split() != [word] for word in argv)


def _instance(raw: Mapping[str, Any]) -> Instance | None:
    config = raw.get("config") or {}
    labels = {key.removeprefix(_USER): value for key, value in config.items() if key.startswith(f"{_USER}{LABEL}")}
    found = labelled_instance(str(raw["name"]), labels, _state(raw))
    if found is None:
        return None
    location = raw.get("location") or ""
    member = "" if location in ("none", "") else str(location)
    devices = (raw.get("devices") or {}).values()
    ports = [_port(it) for it in devices if it.get("type") == "proxy"] if found.state == RUNNING else []
    return found._replace(member=member, ports=tuple(ports), started=_time(str(raw.get("last_used_at") or "")))


def _port(device: Mapping[str, str]) -> str:
    protocol, address, host = device["listen"].split(":")
    shown = "*" if address == "0.0.0.0" else address  # noqa: S104  how it is shown
    return f"{shown}:{host}->{device['connect'].rpartition(':')[2]}/{protocol}"


def _state(raw: Mapping[str, Any]) -> str:
    return RUNNING if raw.get("status") == "Running" else STOPPED


def _time(text: str) -> float:
    try:
        return datetime.fromisoformat(text[:19] + "+00:00").timestamp()
    except ValueError:
        return 0.0


def _alias(identity: str) -> str:
    return f"boxwright-stack-{identity.removeprefix('sha256:')[:24]}"


def _subnet(network: Mapping[str, Any]) -> str:
    address = (network.get("config") or {}).get("ipv4.address", "none")
    return "" if address in ("none", "") else str(ipaddress.IPv4Network(address, strict=False))


def _parents(path: str) -> list[str]:
    parts = path.strip("/").split("/")[:-1]
    return ["/" + "/".join(parts[: number + 1]) for number in range(len(parts))]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _unless_gone(work: Callable[[], object]) -> None:
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
            time.sleep(_FOLLOW_SECONDS)
        else:
            return
