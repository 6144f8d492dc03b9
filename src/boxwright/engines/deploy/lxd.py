"""Stacks on LXD and Incus: a project for each, on one server or on a cluster.

Instances start the image's program as their first process; their addresses are written into them before they start, so
neither a DHCP client nor an init is needed inside (LXD, doc/reference/instance_options.md, `raw.lxc`). On a cluster the
bridges of all members are one network. The gateway's address is each member's own, so what is on another member can't
be reached from here: ports of instances are asked from inside.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

from boxwright.engines.bridges import MachineSubnets, hardware_address, machine_subnets
from boxwright.engines.deploy.lxdcopies import LxdCopies
from boxwright.engines.deploy.lxdinstance import (
    HOSTS,
    SCRIPT,
    absent_instance,
    config_of,
    exit_code_of,
    instance_of,
    parents,
    start_script,
    state_of,
    tells_status,
)
from boxwright.engines.deploy.lxdmemory import STACK, InstanceNote, LxdHooks, document_of, unless_gone
from boxwright.engines.deploy.lxdnetworks import (
    OVN,
    bridge_name,
    create_bridge,
    create_cluster_bridge,
    create_ovn_network,
    foreign_subnets,
    is_chosen,
    made_as,
    ovn_uplink,
    subnet_of,
)
from boxwright.engines.deploy.lxdvolumes import VOLUMES, Kept, turned_devices
from boxwright.engines.exchange import exchange
from boxwright.engines.lacking import restart_lacks
from boxwright.engines.lxdclient.client import LxdClient
from boxwright.engines.lxdclient.cluster import ClusterMember, answers
from boxwright.engines.lxdclient.cluster import members as cluster_members
from boxwright.engines.lxdclient.execution import Command, execute
from boxwright.engines.lxdclient.failures import LxdError
from boxwright.engines.lxdclient.files import push_directory, push_file
from boxwright.engines.lxdclient.transport import Patience
from boxwright.engines.nftrules import require_nft
from boxwright.engines.probe import PROBE, probe_input, probe_program
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import (
    ABSENT,
    LEAVING,
    LOST,
    OFFLINE,
    ONLINE,
    RUNNING,
    UNSURE,
    UPLINK,
    Desired,
    Instance,
    Member,
    NetworkSpec,
    NewInstance,
    Observed,
)
from boxwright.model.volumes import VolumeState

_FOLLOW_SECONDS = 0.3
_STATES = {"online": ONLINE, "draining": LEAVING, "evacuated": LEAVING, "offline": OFFLINE}


class LxdStacks(LxdCopies):
    """The stacks of one server, or of one cluster."""

    name = "lxd"

    def __init__(self, client: LxdClient, hooks: LxdHooks, *, remote: str = "") -> None:
        super().__init__(client, hooks)
        self._remote = remote
        self._seen: tuple[ClusterMember, ...] = ()
        self._told: dict[str, str] = {}
        self._networks: dict[str, Mapping[str, Any]] = {}
        self._turning: dict[str, Mapping[str, Mapping[str, str]]] = {}

    def makes_beside(self, network: NetworkSpec) -> bool:
        """A single server looks for an instance's bridge when that is started.

        Stacks know of each other's subnets that they did not choose by looking after they have made their own.
        """
        return not self.clustered and is_chosen(network.subnet)

    def lacks(self, desired: Desired) -> Sequence[str]:
        """Copies need several members. Raises BoxwrightError `deploy.pool` where a pool is not there."""
        for pool in {it.pool for it in desired.instances} | {it.pool for it in desired.volumes}:
            if pool:
                self._pool(pool)
        found: list[str] = []
        if not self._client.endpoint.socket:
            paths = ((it, mount) for it in desired.instances for mount in it.mounts if mount.kind == "path")
            found += [f"{it.logical}: {mount.source} is looked for on the server, not here" for it, mount in paths]
        if not self.clustered:
            found += [f"{it.logical}: this LXD is no cluster" for it in desired.instances if it.placement.on]
            found += [f"volume {it.name}: copies need a cluster" for it in desired.volumes if it.replicate > 1]
        else:
            count = self.hosts()
            found += [f"volume {it.name}: there are {count} members" for it in desired.volumes if it.replicate > count]
        for it in desired.networks:
            if (it.allow or it.deny) and self._client.endpoint.socket:
                require_nft(it.name)
        found += restart_lacks(desired)
        return tuple(dict.fromkeys(found))

    def hosts(self) -> int:
        """The members of the cluster, whatever they do now."""
        return len(cluster_members(self._client)) if self.clustered else 1

    def unreachable(self) -> Collection[str]:
        """Asked all at once: one that is silent costs seconds. Members are those that were seen last.

        The database may be silent too now, for as long as it takes to find another leader.
        """
        found = self._seen
        with ThreadPoolExecutor(max(1, len(found))) as pool:
            return {it.name for it, answered in zip(found, pool.map(answers, found), strict=True) if not answered}

    @property
    def _reaches_here(self) -> bool:
        """Whether this machine is on the instances' network, so that their ports can be asked from here."""
        return bool(self._client.endpoint.socket) and not self.clustered

    def _bridge(self, stack: str, network: str) -> str:
        return bridge_name(stack, network, clustered=self.clustered)

    # What is there ----------------------------------------------------------------------------------------------------

    def observe(self, stack: str) -> Observed:
        """By the project, and by the keys of instances and networks."""
        members = {it.name: it for it in cluster_members(self._client)} if self.clustered else {}
        self._seen = tuple(members.values())
        project = self._client.find(f"/projects/{self._project(stack)}")
        instances: tuple[Instance, ...] = ()
        volumes: tuple[VolumeState, ...] = ()
        if project is not None:
            offline = {it.name for it in members.values() if it.state == OFFLINE}
            found = self._within(stack).get("/instances", recursion="1")
            instances = self._instances(stack, found, self._notes(project), offline)
            volumes = self._look_at_volumes(stack, project, found)
        away = {it.member for it in instances if it.state == ABSENT}
        self._look_at_networks()
        networks = [it for it in self._networks.values() if it.get("managed")]
        own = [it for it in networks if it.get("config", {}).get(STACK) == stack]
        subnets = tuple(found for it in networks if it not in own and (found := subnet_of(it)))
        machine = machine_subnets()
        here = machine if self._client.endpoint.socket else MachineSubnets()
        return Observed(
            instances,
            tuple(made_as(it, clustered=self.clustered) for it in own),
            tuple(it.name for it in volumes),
            (*subnets, *machine.routed),
            tuple(_member(it, away) for it in members.values()),
            tuple((it.name, it.member) for it in volumes if it.member),
            volumes,
            (*subnets, *here.connected),
        )

    def _look_at_networks(self) -> None:
        """Remembered, as LXD takes long to tell: those of other stacks that come later are seen the next time."""
        self._networks = {it["name"]: it for it in self._client.get("/networks", recursion="1")}

    def _look_at_volumes(
        self, stack: str, project: Mapping[str, Any], instances: Sequence[Mapping[str, Any]]
    ) -> tuple[VolumeState, ...]:
        """What mounts an older one still, as whoever restored a backup was killed, is turned when it starts."""
        lying, kept = self._lying(stack), self._kept(document_of(project, VOLUMES))
        homes = self._homes_of(lying, kept)
        self._turning |= {str(it["name"]): turned_devices(it, lying, homes) for it in instances}
        return tuple(self._state(home, lying, kept.get(name, Kept())) for name, home in homes.items())

    def _instances(
        self,
        stack: str,
        raws: Sequence[Mapping[str, Any]],
        notes: Mapping[str, InstanceNote],
        offline: Collection[str],
    ) -> tuple[Instance, ...]:
        found: list[Instance | None] = []
        for raw in raws:
            self._homes[raw["name"]] = stack
            absent = state_of(raw) == ABSENT or raw.get("location") in offline
            known = absent_instance(raw, stack, notes) if absent else instance_of(raw)
            if known is not None and not absent:
                known = known._replace(exit_code=self._exit_code(raw))
            found.append(known)
        return tuple(it for it in found if it is not None)

    def _exit_code(self, raw: Mapping[str, Any]) -> int | None:
        """How a program ended that is run once, from LXC's log."""
        if not tells_status(raw):
            return None
        name = raw["name"]
        with suppress(LxdError):  # its member has just gone
            status, data = self._of(name).send("GET", f"/instances/{name}/logs/lxc.log", None)
            if status == HTTPStatus.OK:
                return exit_code_of(data.decode(errors="replace"))
        return None

    def state(self, instance: str) -> Any:  # noqa: ANN401  as the hook makes it
        """What an instance does now. With which status a program ended is known of those that are run once."""
        try:
            found = self._of(instance).find(f"/instances/{instance}")
        except LxdError:
            if not self.clustered:
                raise
            return self._hooks.state(ABSENT, None)  # its member can't be asked
        return self._hooks.state(state_of(found), self._exit_code(found)) if found else self._hooks.state(LOST, None)

    # Images, networks, volumes ----------------------------------------------------------------------------------------

    def provide_image(self, identity: str, name: str) -> None:
        """Load it from the store where it is not there."""
        del name
        alias = _alias(identity)
        if self._client.find(f"/images/aliases/{alias}") is None:
            self._hooks.load(self._client, identity, alias)

    def drop_images(self, stack: str, identities: Sequence[str]) -> Collection[str]:
        """Remove images that no instance was made of: its next one would be made of it too.

        While a member does not answer all of them stay: LXD does not tell what its instances were made of.
        """
        del stack
        every = self._client.get("/instances", recursion="1", **{"all-projects": "true"})
        if any(state_of(it) == ABSENT for it in every):
            return ()
        needed = {(it.get("config") or {}).get("volatile.base_image") for it in every}
        dropped: list[str] = []
        for identity in identities:
            found = self._client.find(f"/images/aliases/{_alias(identity)}")
            if found is not None and found["target"] in needed:
                continue
            if found is not None:
                unless_gone(partial(self._client.run, "DELETE", f"/images/{found['target']}"))
            dropped.append(identity)
        return dropped

    def create_network(self, stack: str, spec: NetworkSpec) -> None:
        """A bridge; on a cluster one network of all members: OVN's where it has that, else of bridges."""
        name = self._bridge(stack, spec.name)
        if self.clustered and spec.across != "host" and (uplink := ovn_uplink(self._client)):
            create_ovn_network(self._client, name, stack, spec, uplink)
        elif self.clustered:
            create_cluster_bridge(self._client, name, stack, spec)
        else:
            create_bridge(self._client, name, stack, spec)
        if not self.makes_beside(spec):
            self._look_at_networks()

    def delete_network(self, stack: str, name: str) -> None:
        """Remove it."""
        unless_gone(lambda: self._client.run("DELETE", f"/networks/{self._bridge(stack, name)}"))

    # Instances --------------------------------------------------------------------------------------------------------

    def create(self, new: NewInstance) -> None:
        """Make it with its devices and files; nothing is started. Raises BoxwrightError `deploy.taken`."""
        client = self._within(new.stack)
        self._homes[new.name] = new.stack
        bridges = [self._bridge(new.stack, it) for it, _ in new.addresses]
        closed = foreign_subnets(self._networks.values(), bridges)
        ids = self._ids(new)
        self._note(new.stack, new.name, InstanceNote(new.addresses, _account(new), ids))
        body = {
            "name": new.name,
            "type": "container",
            "source": {"type": "image", "alias": _alias(new.spec.image)},
            "profiles": [],
            "config": config_of(new, closed, ids),
            "devices": self._devices(new),
        }
        self._make(client, body, new.member)
        self._told[new.name] = new.hosts
        if script := start_script(new.spec.argv):
            push_file(client, new.name, SCRIPT, script, mode=0o755)
        if new.spec.health.kind in ("http", "tcp") and not self._reaches_here:
            machine = client.get(f"/instances/{new.name}")["architecture"]
            push_file(client, new.name, PROBE, probe_program(machine), mode=0o755)
        made: set[str] = set()
        for path, data, mode in new.files:
            for directory in parents(path):
                if directory not in made:
                    push_directory(client, new.name, directory)
                    made.add(directory)
            push_file(client, new.name, path, data, mode=mode)

    def _make(self, client: LxdClient, body: Mapping[str, Any], member: str) -> None:
        """It is not asked first whether the name is free: that would cost each time what is seldom needed."""
        query = {"target": member} if member else None
        try:
            client.run("POST", "/instances", body, query=query)
        except LxdError:
            name = str(body["name"])
            if (found := client.find(f"/instances/{name}")) is None:
                raise
            if state_of(found) == RUNNING:
                message = f"{name} runs already: another process has started it meanwhile"
                raise BoxwrightError(
                    "deploy.taken", message, hint="do it again: what runs is looked at first"
                ) from None
            self.delete(name)
            client.run("POST", "/instances", body, query=query)

    def _ids(self, new: NewInstance) -> tuple[int, int] | None:
        """Of its user: as the store's image has them, else as an earlier instance of it was given them."""
        if not new.spec.user:
            return None
        try:
            return self._hooks.ids(new.spec.image, new.spec.user)
        except BoxwrightError:
            notes = self._notes(self._client.get(f"/projects/{self._project(new.stack)}"))
            known = (it.ids for it in notes.values() if it.account == _account(new))
            found = next((ids for ids in known if ids is not None), None)
            if found is None:
                raise
            return found

    def _devices(self, new: NewInstance) -> dict[str, dict[str, str]]:
        devices: dict[str, dict[str, str]] = {"root": {"type": "disk", "path": "/", "pool": self._pool(new.spec.pool)}}
        for number, (network, address) in enumerate(new.addresses):
            bridge = self._bridge(new.stack, network)
            link = {"network": bridge} if self.clustered else {"nictype": "bridged", "parent": bridge}
            if self.clustered and self._networks[bridge]["type"] == OVN:
                link["ipv4.address"] = address
            devices[f"eth{number}"] = {
                "type": "nic",
                **link,
                "name": f"eth{number}",
                "hwaddr": hardware_address(address),
            }
        if new.spec.uplink:
            devices[UPLINK] = {"type": "nic", "name": UPLINK, **self._on_host(new.spec.uplink, new.member)}
        for number, it in enumerate(new.spec.mounts):
            device = {"type": "disk", "path": it.target, "readonly": "true" if it.read_only else "false"}
            if it.kind == "path":
                devices[f"path{number}"] = {**device, "source": os.path.abspath(it.source)}
            elif it.kind == "volume":
                lying = self._volume(new.stack, it.source)
                devices[f"volume{number}"] = {**device, "source": lying.name, "pool": lying.pool}
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

    def _on_host(self, interface: str, member: str) -> dict[str, str]:
        """How an instance gets on a network of its host: by a bridge where that is one. Raises `deploy.interface`."""
        query = {"target": member} if member else None
        status, data = self._client.send("GET", f"/networks/{interface}", None, query=query)
        if status != HTTPStatus.OK:
            where = f"{member} has" if member else "there is"
            hint = "`lxc network list` shows them"
            raise BoxwrightError("deploy.interface", f"{where} no interface {interface}", hint=hint)
        kind = json.loads(data)["metadata"]["type"]
        return {"nictype": "bridged" if kind == "bridge" else "macvlan", "parent": interface}

    def start(self, instance: str) -> None:
        """Start it, with the volumes that are its own now."""
        client = self._of(instance)
        self._turn(client, instance, self._turning.pop(instance, {}))
        client.change_state(instance, "start")

    def stop(self, instance: str, seconds: float) -> None:
        """Ask it to end; kill it after `seconds`."""
        client = self._of(instance)
        found = client.find(f"/instances/{instance}")
        if found is None or state_of(found) != RUNNING:
            return
        try:
            if seconds > 0:
                client.change_state(instance, "stop", seconds=max(1, round(seconds)))
                return
        except LxdError:
            pass  # it does not end by itself
        found = client.find(f"/instances/{instance}")
        if found is not None and state_of(found) == RUNNING:
            unless_gone(lambda: client.change_state(instance, "stop", force=True))

    def delete(self, instance: str) -> None:
        """Remove it, running or not."""
        self.stop(instance, 0)
        client = self._of(instance)
        unless_gone(lambda: client.run("DELETE", f"/instances/{instance}"))
        self._note(client.project.removeprefix(self._project("")), instance, None)

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

    def exchange(self, instance: str, port: int, request: bytes, timeout: float) -> bytes:
        """Over the bridge where this machine is on it and the instance is here; else from inside."""
        raw = self._of(instance).find(f"/instances/{instance}")
        found = instance_of(raw) if raw else None
        if found is None or found.state != RUNNING or not found.addresses:
            raise OSError("it does not run")
        address = found.addresses[0][1]
        if self._reaches_here:
            return exchange(socket.create_connection((address, port), timeout), request, timeout)
        said: list[bytes] = []
        command = Command((PROBE,), {}, stdin=probe_input(address, port, request))
        try:
            status = execute(self._of(instance), instance, command, said.append, said.append, Patience(timeout))
        except LxdError as error:
            raise OSError(error.message) from error
        if status:
            raise OSError("nobody listens" if status == 1 else f"it can't be asked ({status})")
        return b"".join(said)

    def put(self, instance: str, path: str, data: bytes, mode: int) -> None:
        """Replace a file in it."""
        push_file(self._of(instance), instance, path, data, mode=mode)

    def publish_names(self, stack: str, hosts: str) -> None:
        """Write /etc/hosts into every instance that runs."""
        client = self._within(stack)
        running = [it["name"] for it in client.get("/instances", recursion="1") if state_of(it) == RUNNING]
        names = [it for it in running if self._told.get(it) != hosts]

        def write(name: str) -> None:
            with suppress(LxdError):  # it has just ended: it gets its names when it is made again
                push_file(client, name, HOSTS, hosts.encode(), mode=0o644)
                self._told[name] = hosts

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, names))


def _member(found: ClusterMember, away: Collection[str]) -> Member:
    """Where LXD says that it is offline, or can't ask its instances, it is asked once more from here."""
    state = _STATES.get(found.state, OFFLINE)
    if found.name in away or state == OFFLINE:
        state = UNSURE if answers(found) else OFFLINE
    return Member(found.name, found.domain, state, found.state == "offline")


def _account(new: NewInstance) -> str:
    return f"{new.spec.image} {new.spec.user}"


def _alias(identity: str) -> str:
    return f"boxwright-image-{identity.removeprefix('sha256:')[:24]}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
