"""LXD and Incus: a state is a snapshot of an instance. A tree with an init is booted, another gets one that waits.

The instance of a build is stopped at its end and kept as long as it has snapshots: on a pool that copies on write they
cost what changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import ipaddress
import os
import posixpath
import secrets
import tarfile
import time
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import Any

from boxwright.engines.building.accounts import Accounts, root_of
from boxwright.engines.building.lxdsnapshots import SnapshotPlaces, Snapshotting
from boxwright.engines.building.owners import is_abandoned, own_mark
from boxwright.engines.building.pause import PATH
from boxwright.engines.building.users import find_user
from boxwright.engines.lxdclient.address import Endpoint
from boxwright.engines.lxdclient.client import LxdClient
from boxwright.engines.lxdclient.execution import Command, execute
from boxwright.engines.lxdclient.failures import LxdError
from boxwright.engines.lxdclient.files import pull_file, push_directory, push_file, push_link, remove_file
from boxwright.engines.lxdclient.images import (
    export_image,
    import_split_image,
    name_image,
    publish,
    remove_image,
)
from boxwright.engines.lxdclient.transport import Patience
from boxwright.errors import BoxwrightError
from boxwright.ports import Bind, BuildContainer, ContainerShape, EngineCommand, SeenPath, Tmpfs

OWNER = "user.boxwright.build"
ADDRESS = "user.boxwright.address"
KEPT = "kept"
PREFIX = "boxwright-build-"
CACHE = "boxwright-cache-"
INITS = ("/sbin/init", "/lib/systemd/systemd")
BOOT_SECONDS = 60.0
START_SECONDS = 60.0
COPY_ON_WRITE = ("btrfs", "zfs")
LAST_HOST, HOSTS = 250, 50
"""Of a bridge's subnet, the addresses for containers that can't ask for one: that many, up to this one."""


class LxdEngine:
    """A server; `pool` is the storage pool, empty for that of the default profile."""

    def __init__(self, endpoint: Endpoint, pool: str = "") -> None:
        self.name = "lxd"
        self.is_local = bool(endpoint.socket)
        self.client = LxdClient(endpoint)
        self._pool = pool
        self._directory = os.path.dirname(endpoint.socket)
        self._places: dict[str, str] = {}
        self._made: dict[str, Snapshotting] = {}

    def states(self) -> set[str]:
        """The snapshots of instances that we kept, and the images with which builds began."""
        found = set()
        for instance in self.client.get("/instances", recursion="2"):
            if OWNER in instance["config"]:
                for snapshot in instance.get("snapshots") or ():
                    state = snapshot["name"].rpartition("/")[2]
                    self._places[state] = instance["name"]
                    found.add(state)
        for alias in self.client.get("/images/aliases", recursion="1"):
            if alias["name"].startswith(PREFIX):
                found.add(alias["name"].removeprefix(PREFIX))
        return found

    def load(self, state: str, archive: str) -> None:
        """As an image of two files, named after the state."""
        text = (
            f"architecture: {os.uname().machine}\ncreation_date: 1\n"
            f"properties:\n  description: boxwright state {state}\n"
        ).encode()
        with open(archive, "rb") as rootfs, open(f"{archive}.metadata", "w+b") as metadata:
            os.unlink(f"{archive}.metadata")
            with tarfile.open(fileobj=metadata, mode="w") as packed:
                entry = tarfile.TarInfo("metadata.yaml")
                entry.size = len(text)
                packed.addfile(entry, io.BytesIO(text))
            metadata.flush()
            metadata.seek(0)
            fingerprint = import_split_image(self.client, metadata, rootfs)
        name_image(self.client, f"{PREFIX}{state}", fingerprint)

    def start(self, state: str, shape: ContainerShape) -> BuildContainer:
        """An instance of the snapshot or image, started, with its network."""
        name = f"{PREFIX}{secrets.token_hex(6)}"
        client = self.client
        config = {OWNER: own_mark(), ADDRESS: "", "security.nesting": "true", "boot.autostart": "false"}
        config["raw.lxc"] = "\n".join(_tmpfs(shape))
        place = self.place(state)
        if place is not None:
            source = {"type": "copy", "source": f"{place}/{state}", "instance_only": True}
        else:
            source = {"type": "image", "alias": f"{PREFIX}{state}"}
        body = {
            "name": name,
            "source": source,
            "config": config,
            "devices": self._devices(shape),
            "profiles": ["default"],
        }
        if place is not None:
            # Else another member of a cluster, which gets a copy, does not know it.
            body["architecture"] = client.get(f"/instances/{place}")["architecture"]
        client.run("POST", "/instances", body, query=self._target(shape), patience=Patience(START_SECONDS * 10))
        container = LxdContainer(self, name)
        try:
            booted = any(container.look(path) is not None for path in INITS)
            if not booted:
                changed = self._unbooted(container, shape)
                changed["raw.lxc"] = "\n".join(filter(None, (config["raw.lxc"], changed["raw.lxc"])))
                client.run("PATCH", f"/instances/{name}", {"config": changed})
            client.change_state(name, "start", patience=Patience(START_SECONDS))
            container.accounts = self._accounts(container)
            if booted:
                if shape.network == "default":
                    container.await_address()
                container.await_boot()
        except BaseException:
            container.remove()
            raise
        return container

    @cached_property
    def snapshots_are_quick(self) -> bool:
        """Whether the pool copies on write: LXD does not wait for a command's beginning for as long as a copy takes."""
        return self._storage[1] in COPY_ON_WRITE

    @cached_property
    def _storage(self) -> tuple[str, str]:
        """The pool's name and driver."""
        pool = self._pool or self.client.get("/profiles/default")["devices"]["root"]["pool"]
        return pool, self.client.get(f"/storage-pools/{pool}")["driver"]

    @cached_property
    def snapshot_places(self) -> SnapshotPlaces | None:
        """Where subvolumes appear, where that is a directory of this machine that we may look at."""
        pool, driver = self._storage
        seen = self._directory and os.geteuid() == 0 and not self.member and not self.client.project
        return SnapshotPlaces(f"{self._directory}/storage-pools/{pool}") if seen and driver == "btrfs" else None

    @cached_property
    def member(self) -> str:
        """The member of a cluster that we speak to; empty where the server is none."""
        found = self.client.get("")["environment"]
        return str(found["server_name"]) if found.get("server_clustered") else ""

    def _target(self, shape: ContainerShape) -> dict[str, str]:
        """A cluster places a container itself, unless it needs something of the member that we speak to."""
        bound = any(isinstance(mount, Bind) for mount in shape.mounts)
        return {"target": self.member} if bound and self.member else {}

    def _unbooted(self, container: LxdContainer, shape: ContainerShape) -> dict[str, str]:
        """What starts our first process, and gives it the address that nobody inside could ask for."""
        lines = [f"lxc.init.cmd = /{PATH}"]
        bridge = self._bridge(container.name) if shape.network == "default" else None
        if bridge is None:
            return {"raw.lxc": lines[0]}
        written = self.client.get(f"/networks/{bridge}")["config"].get("ipv4.address", "none")
        if written == "none":
            return {"raw.lxc": lines[0]}
        subnet = ipaddress.IPv4Interface(written)
        address = self._free_address(subnet, bridge)
        lines += [
            f"lxc.net.0.ipv4.address = {address}/{subnet.network.prefixlen}",
            f"lxc.net.0.ipv4.gateway = {subnet.ip}",
        ]
        if container.look("/etc") is None:
            push_directory(self.client, container.name, "/etc")
        container.write("/etc/resolv.conf", f"nameserver {subnet.ip}\n".encode())
        return {"raw.lxc": "\n".join(lines), ADDRESS: str(address)}

    def _devices(self, shape: ContainerShape) -> dict[str, dict[str, str]]:
        devices: dict[str, dict[str, str]] = {}
        default = self.client.get("/profiles/default")["devices"]
        if self._pool:
            devices["root"] = {"type": "disk", "path": "/", "pool": self._pool}
        if shape.network == "host":
            raise BoxwrightError("engine.network", "a build container of LXD can't have the machine's own network")
        if shape.network != "default":
            devices |= {name: {"type": "none"} for name, it in default.items() if it.get("type") == "nic"}
        for number, mount in enumerate(shape.mounts):
            if not isinstance(mount, Bind):
                continue
            device = {"type": "disk", "path": mount.target}
            if not mount.read_only:
                device |= self._cache(mount.source, self._pool or default["root"]["pool"])
            elif self.is_local:
                device |= {"source": mount.source, "readonly": "true"}
            else:
                raise BoxwrightError("engine.mount", f"{mount.target} can't be mounted on a distant server")
            devices[f"mount{number}"] = device
        return devices

    def _cache(self, source: str, pool: str) -> dict[str, str]:
        """A volume of the server's own in place of a directory of ours, whose owners a container could not be."""
        name = f"{CACHE}{hashlib.sha256(os.fsencode(source)).hexdigest()[:16]}"
        try:
            where = {"target": self.member} if self.member else {}
            body = {"name": name, "config": {}}
            self.client.run("POST", f"/storage-pools/{pool}/volumes/custom", body, query=where)
        except LxdError as error:
            if error.code != "lxd.exists":
                raise
        return {"pool": pool, "source": name}

    def _accounts(self, container: LxdContainer) -> Accounts:
        """How a container's users are read: not by LXD where that is this machine's.

        Each snapshot ends LXD's server of files for the instance, and the next read would start one.
        """
        if not self.is_local or os.geteuid() != 0 or self.member:
            return Accounts(container.read, None)
        pid = self.client.get(f"/instances/{container.name}/state")["pid"]
        return Accounts(container.read, root_of(pid, container.name))

    def _bridge(self, name: str) -> str | None:
        """The bridge of LXD's own that an instance is on."""
        for device in self.client.get(f"/instances/{name}")["expanded_devices"].values():
            if device.get("type") == "nic" and device.get("network"):
                return str(device["network"])
        return None

    def _free_address(self, subnet: ipaddress.IPv4Interface, bridge: str) -> ipaddress.IPv4Address:
        taken = {lease["address"] for lease in self.client.get(f"/networks/{bridge}/leases")} | {str(subnet.ip)}
        others = [it["config"] for it in self.client.get("/instances", recursion="1")]
        taken |= {it.get(ADDRESS, "") for it in others if it.get(OWNER) != KEPT}
        last = min(LAST_HOST, subnet.network.num_addresses - 2)
        hosts = list(range(max(1, last - HOSTS), last + 1))
        secrets.SystemRandom().shuffle(hosts)
        for host in hosts:
            address = subnet.network.network_address + host
            if str(address) not in taken:
                return address
        raise BoxwrightError("engine.network", f"{bridge} has no free address")

    def kept(self, state: str, instance: str, made: Snapshotting) -> None:
        """Note where a new state is, or will be."""
        self._places[state] = instance
        self._made[state] = made

    def place(self, state: str) -> str | None:
        """The instance that has a state, once it has. Raises LxdError where it could not be made."""
        made = self._made.get(state)
        if made is not None:
            made.settle()
        return self._places.get(state)

    def fetch(self, state: str, archive: str) -> str:
        """Publish the snapshot as an image without compression, and read that."""
        fingerprint = publish(self.client, {"type": "snapshot", "name": f"{self.place(state)}/{state}"})
        try:
            with open(archive, "xb") as file:
                file.writelines(export_image(self.client, fingerprint))
        finally:
            remove_image(self.client, fingerprint)
        return "rootfs/"

    def forget(self, states: Collection[str]) -> None:
        """Remove snapshots, instances of which none is left, and images."""
        for made in self._made.values():
            with contextlib.suppress(LxdError):
                made.settle()
        self.states()
        for state in states:
            place = self._places.pop(state, None)
            if place is not None:
                self.client.run("DELETE", f"/instances/{place}/snapshots/{state}")
            alias = self.client.find(f"/images/aliases/{PREFIX}{state}")
            if alias is not None:
                remove_image(self.client, alias["target"])
        self._forget_caches()
        for instance in self.client.get("/instances", recursion="2"):
            if instance["config"].get(OWNER) == KEPT and not instance.get("snapshots"):
                self.client.run("DELETE", f"/instances/{instance['name']}")

    def _forget_caches(self) -> None:
        """Caches may go at any time at which nobody uses them."""
        for pool in self.client.get("/storage-pools"):
            name = pool.rpartition("/")[2]
            for volume in self.client.get(f"/storage-pools/{name}/volumes/custom", recursion="1"):
                if volume["name"].startswith(CACHE) and not volume.get("used_by"):
                    with contextlib.suppress(LxdError):
                        self.client.run("DELETE", f"/storage-pools/{name}/volumes/custom/{volume['name']}")

    def sweep(self, owner: str = "") -> int:
        """Stop the instances of processes that have ended; their snapshots stay."""
        removed = 0
        for instance in self.client.get("/instances", recursion="1"):
            whose = instance["config"].get(OWNER, KEPT)
            if whose != KEPT and (whose == owner or (not owner and is_abandoned(whose))):
                with contextlib.suppress(LxdError):
                    LxdContainer(self, instance["name"]).remove()
                    removed += 1
        return removed

    def close(self) -> None:
        """Close the connections."""
        self.client.close()


def _tmpfs(shape: ContainerShape) -> list[str]:
    return [
        f"lxc.mount.entry = tmpfs {mount.target.lstrip('/')} tmpfs rw,create=dir 0 0"
        for mount in shape.mounts
        if isinstance(mount, Tmpfs)
    ]


class LxdContainer:
    """A build container: an instance."""

    def __init__(self, engine: LxdEngine, name: str) -> None:
        self.name = name
        self._engine = engine
        self._client = engine.client
        self._last: Snapshotting | None = None
        self.accounts = Accounts(self.read, None)

    def _settle(self) -> None:
        """Nothing may change while a snapshot is made of it. Where that fails it is said once."""
        last, self._last = self._last, None
        if last is not None:
            last.settle()

    def addresses(self) -> list[str]:
        """The addresses that others can reach."""
        network: Mapping[str, Any] = self._client.get(f"/instances/{self.name}/state").get("network") or {}
        return [it["address"] for nic in network.values() for it in nic["addresses"] if it["scope"] == "global"]

    def await_address(self) -> None:
        """A system asks for its address itself."""
        until = time.monotonic() + BOOT_SECONDS
        while not self.addresses() and time.monotonic() < until:
            time.sleep(0.05)

    def await_boot(self) -> None:
        """Until systemd has started what it starts, where it is the init and can be asked."""
        if self.look("/usr/bin/systemctl") is None:
            return
        command = Command(("systemctl", "is-system-running", "--wait"), {"PATH": "/usr/bin:/bin"}, "/")
        until = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < until:
            said = bytearray()
            execute(self._client, self.name, command, said.extend, said.extend, Patience(BOOT_SECONDS))
            if bytes(said).strip() in (b"running", b"degraded"):
                return
            time.sleep(0.1)

    def execute(self, command: EngineCommand, output: Callable[[bytes], None], cancelled: Callable[[], bool]) -> int:
        """Run it. All is prepared while the last state's snapshot is made; the command begins once its tree is taken.

        Where that state could not be made, that is the error, and no status of a command.
        """
        who = find_user(command.user, self.accounts.read)
        env = {"HOME": who.home, **dict(command.env)}
        asked = Command(command.argv, env, command.cwd, who.uid, who.gid)
        if not self._engine.snapshots_are_quick:
            self._settle()
        last, self._last = self._last, None
        patience = Patience(cancelled=cancelled)
        if last is None:
            return execute(self._client, self.name, asked, output, output, patience)
        try:
            status = execute(self._client, self.name, asked, output, output, patience, last.taken)
        except BaseException:
            with contextlib.suppress(LxdError):
                last.settle()
            raise
        last.settle()
        return status

    def look(self, path: str) -> SeenPath | None:
        """What is there."""
        self._settle()  # a snapshot ends LXD's server of files
        target = bytearray()
        try:
            found = pull_file(self._client, self.name, path, target.extend)
        except LxdError as error:
            if error.code != "lxd.not-found":
                raise
            return None
        is_link = found.kind == "symlink"
        return SeenPath(found.kind, target.decode("utf-8", "surrogateescape").rstrip("\n") if is_link else "")

    def read(self, path: str) -> bytes | None:
        """A file's bytes."""
        self._settle()
        data = bytearray()
        try:
            found = pull_file(self._client, self.name, path, data.extend)
        except LxdError as error:
            if error.code != "lxd.not-found":
                raise
            return None
        return bytes(data) if found.kind == "file" else None

    def write(self, path: str, data: bytes) -> None:
        """Put a file in place of what stands there, a link too."""
        self._settle()
        with contextlib.suppress(LxdError):
            remove_file(self._client, self.name, path)
        push_file(self._client, self.name, path, data)

    def put(self, archive: str) -> None:
        """One request for each member: the interface takes no archives."""
        self._settle()
        with tarfile.open(archive) as packed:
            for member in packed:
                self._put(packed, member)

    def _put(self, packed: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = posixpath.join("/", member.name.rstrip("/"))
        if member.isdir():
            push_directory(self._client, self.name, path, mode=member.mode, uid=member.uid, gid=member.gid)
        elif member.issym():
            with contextlib.suppress(LxdError):
                remove_file(self._client, self.name, path)
            push_link(self._client, self.name, path, member.linkname)
        else:
            opened = packed.extractfile(member)
            if opened is None:
                raise BoxwrightError("engine.file", f"{path}: LXD takes files, directories and links alone")
            push_file(self._client, self.name, path, opened, mode=member.mode & 0o777, uid=member.uid, gid=member.gid)

    def commit(self, state: str) -> None:
        """As a snapshot. It is waited for when somebody needs it, or goes on here."""
        self._settle()
        path = f"/instances/{self.name}/snapshots"
        places = self._engine.snapshot_places
        place = places.place(self.name, state) if places is not None else ""
        operation = self._client.operation_of(self._client.request("POST", path, {"name": state, "stateful": False}))
        self._last = Snapshotting(self._client, operation, f"POST {path}", place)
        self._engine.kept(state, self.name, self._last)

    def remove(self) -> None:
        """Stop it, and remove it where it holds no state."""
        try:
            self._settle()
        finally:
            self._remove()

    def _remove(self) -> None:
        self.accounts.close()
        instance = self._client.find(f"/instances/{self.name}", recursion="1")
        if instance is None:
            return
        if instance["status"] != "Stopped":
            self._client.change_state(self.name, "stop", force=True, seconds=0)
        if self._client.get(f"/instances/{self.name}/snapshots"):
            self._client.run("PATCH", f"/instances/{self.name}", {"config": {OWNER: KEPT}})
        else:
            self._client.run("DELETE", f"/instances/{self.name}")
