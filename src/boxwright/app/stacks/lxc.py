"""Stacks on LXC: instances over the store's own layers, networks and volumes as the native engine has them."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence

from boxwright.app.containers import engine_of
from boxwright.app.lookup import find_image
from boxwright.app.placing import make_layer, open_log
from boxwright.app.stacks.local import LocalStacks, entries
from boxwright.app.stacks.places import (
    HOSTS,
    one_host_lacks,
    rewrite_file,
    volume_option,
    write_files,
)
from boxwright.app.stacks.users import user_of
from boxwright.deploy.engine import Executed, State
from boxwright.engines import processes
from boxwright.engines.bridges import machine_subnets
from boxwright.engines.deploy.lxc import LxcInstances, LxcRecord, check_variable
from boxwright.engines.documents import StackDirectory
from boxwright.engines.exchange import exchange
from boxwright.engines.forward import GOING_SECONDS, Forward, claim, pasta_options
from boxwright.engines.nftrules import RULES, read_rules, write_rules
from boxwright.engines.processes import ProcessMark
from boxwright.engines.records import Mounted
from boxwright.engines.volumes import Volumes
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import (
    CREATED,
    LABEL,
    LOST,
    RUNNING,
    STOPPED,
    Desired,
    Instance,
    NewInstance,
    Observed,
    labelled_instance,
)
from boxwright.sandbox.network import request, resolver
from boxwright.sandbox.reach import connect_inside
from boxwright.store.store import Store

RESOLVER = "/etc/resolv.conf"
_LOOPBACK = "127.0.0.1"
_CONNECTED_SECONDS = 10.0
_PAUSE_SECONDS = 0.005
_TIMED_OUT = 124
_DEFAULT_ROUTE = "00000000"
_NAMING = (
    "unshare", "--mount", "--propagation", "private",
    "sh", "-c", 'mount --bind "$1" "$2" && shift 2 && exec "$@"', "boxwright",
)  # fmt: skip
"""pasta gives up what it needs to look at another process before it opens the network: it wants a name for it."""


class LxcStacks(LocalStacks):
    """The stacks on LXC of a store. Raises BoxwrightError `deploy.engine-lacks` for an ordinary user."""

    name = "lxc"

    def __init__(self, store: Store) -> None:
        if os.geteuid() != 0:
            hint = "use the engine native as an ordinary user"
            raise BoxwrightError("deploy.engine-lacks", "stacks on LXC need root", hint=hint)
        home = f"{store.home.root}/lxc-stacks"
        super().__init__(store, StackDirectory(lambda stack: f"{home}/stacks/{stack}"), f"{home}/volumes")
        self._stacks = f"{home}/stacks"
        self._instances = LxcInstances(f"{home}/instances", store.home.layers)

    def lacks(self, desired: Desired) -> Sequence[str]:
        """What needs more than one host; a variable of several lines can't be said in LXC's configuration at all."""
        for instance in desired.instances:
            for name, value in instance.env:
                check_variable(name, value)
        return one_host_lacks("LXC", desired)

    def stacks(self) -> Sequence[str]:
        """Those that have a directory."""
        return entries(self._stacks)

    # What is there ----------------------------------------------------------------------------------------------------

    def observe(self, stack: str) -> Observed:
        """By the instances' records and processes."""
        found = [self._instance(it, stack) for it in self._instances.names()]
        machine = machine_subnets()
        return Observed(
            tuple(it for it in found if it is not None),
            tuple(self.networks.of(stack)),
            self.volume_names(stack),
            machine.routed,
            held=machine.outward,
        )

    def _instance(self, name: str, stack: str) -> Instance | None:
        record = self._instances.find(name)
        if record is None or dict(record.labels).get(f"{LABEL}stack") != stack:
            return None
        now = self.state(name)
        found = labelled_instance(name, dict(record.labels), now.state)
        status = self._instances.status(name)
        if found is None or status is None:
            return found
        ports = status.ports if now.state == RUNNING else ()
        return found._replace(exit_code=now.exit_code, started=status.started, ports=ports)

    def state(self, instance: str) -> State:
        """What an instance does now."""
        if self._instances.find(instance) is None:
            return State(LOST)
        if self._instances.is_running(instance):
            return State(RUNNING)
        if self._instances.status(instance) is None:
            return State(CREATED)
        self._instances.tidy(instance)
        return State(STOPPED, self._instances.exit_code(instance))

    # Images, networks, volumes ----------------------------------------------------------------------------------------

    # Instances --------------------------------------------------------------------------------------------------------

    def create(self, new: NewInstance) -> None:
        """A record, a layer, its files; nothing is started."""
        self.delete(new.name)
        spec = new.spec
        image = find_image(self.store, spec.image)
        place = self._instances.make_place(new.name)
        make_layer(self.store, image, place, read_only=False)
        os.close(open_log(place))
        files = write_files(place, new)
        write_rules(f"{place}/{RULES}", new.rules)
        options = [volume_option(new.stack, it) for it in spec.mounts]
        volumes = Volumes(self.volumes, self.store)
        mounts = volumes.provide(options, image.snapshot, f"{place}/volumes")
        internal = self.networks.are_internal(new.stack, spec.networks)
        who = user_of(self.store, spec.image, spec.user or "0")
        record = LxcRecord(
            labels=new.labels,
            layers=image.snapshot.layers,
            argv=spec.argv,
            env=tuple({"HOME": who.home, **dict(new.env)}.items()),
            directory=spec.directory,
            user=(who.uid, who.gid),
            hostname=spec.logical,
            internal=internal,
            ports=tuple(Forward(it.port.container, it.port.protocol, it.port.host, it.address) for it in spec.ports),
            mounts=(*mounts, *self._names(new.stack, place, internal=internal), *files),
            stop_signal=spec.stop_signal,
            attachments=new.addresses,
        )
        self._instances.write(new.name, record)

    def _names(self, stack: str, place: str, *, internal: bool) -> tuple[Mounted, ...]:
        """Where names are looked up."""
        path = f"{place}/resolv.conf"
        with open(RESOLVER, encoding="utf-8", errors="replace") as host:
            text = resolver(host.read(), "none" if internal else "default")
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
        hosts = Mounted(self.directory.hosts(stack), HOSTS, read_only=True)
        return hosts, Mounted(path, RESOLVER, read_only=True)

    def start(self, instance: str) -> None:
        """Start it with its cables plugged in."""
        if not self._instances.is_running(instance):
            record = self._instances.get(instance)
            self._instances.start(instance, lambda pid, place: self._connect(record, pid, place))

    def _connect(self, record: LxcRecord, pid: int, place: str) -> tuple[ProcessMark | None, tuple[str, ...]]:
        """Cables to the stack's bridges, and pasta(1) for what leads out of the machine and its ports."""
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            rules = read_rules(f"{place}/{RULES}")
            plug_in = self.networks.plugging(dict(record.labels)[f"{LABEL}stack"], record.attachments, rules)
            if record.internal:
                plug_in(namespace)
                return None, ()
            with engine_of(self.store.home).records.lock("ports"):
                ports = claim(record.ports, GOING_SECONDS)
                carrier = _carry(pid, place, ports)
            plug_in(namespace)
        finally:
            os.close(namespace)
        return carrier, tuple(str(it) for it in ports)

    def stop(self, instance: str, seconds: float) -> None:
        """Ask it to end; kill it after `seconds`."""
        self._instances.stop(instance, seconds)

    def delete(self, instance: str) -> None:
        """Remove it, running or not."""
        self._instances.delete(instance)

    # Inside an instance -----------------------------------------------------------------------------------------------

    def execute(self, instance: str, argv: Sequence[str], timeout: float, stdin: bytes = b"") -> Executed:
        """Run a command in a running instance as root."""
        words = self._instances.command(self._running(instance), argv)
        try:
            done = subprocess.run(
                words,
                input=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=timeout,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired as error:
            return Executed(_TIMED_OUT, error.stdout or b"")
        return Executed(done.returncode, done.stdout)

    def attach(self, instance: str, argv: Sequence[str], *, terminal: bool, stdin: bool) -> int:
        """The same on this process's own streams; lxc-attach makes a terminal where these are one."""
        words = self._instances.command(self._running(instance), argv)
        given = None if stdin or terminal else subprocess.DEVNULL
        return subprocess.run(words, stdin=given, check=False).returncode

    def _running(self, instance: str) -> str:
        if not self._instances.is_running(instance):
            raise BoxwrightError("container.not-running", f"the instance {instance} does not run")
        return instance

    def logs(self, instance: str, follow: Callable[[], bool]) -> Iterator[bytes]:
        """What it wrote."""
        return self._instances.log(instance, follow)

    def exchange(self, instance: str, port: int, request: bytes, timeout: float) -> bytes:
        """Ask a port from inside the instance's own network."""
        return exchange(self._reach(instance, port, timeout), request, timeout)

    def _reach(self, instance: str, port: int, timeout: float) -> socket.socket:
        record, status = self._instances.find(instance), self._instances.status(instance)
        if record is None or status is None or not self._instances.is_running(instance):
            raise OSError("it does not run")
        address = next((address for _, address in record.attachments), _LOOPBACK)
        return connect_inside(f"/proc/{status.holder.pid}/ns/net", (address, port), timeout)

    def put(self, instance: str, path: str, data: bytes, mode: int) -> None:
        """Replace a file that it was given, which keeps its mode."""
        del mode
        rewrite_file(self._instances.get(instance).mounts, instance, path, data)

    # Documents --------------------------------------------------------------------------------------------------------


def _carry(pid: int, place: str, ports: Sequence[Forward]) -> ProcessMark:
    """Start pasta(1) for the network namespace of a process, and wait until that has its way out."""
    tcp, udp = pasta_options(ports)
    point = f"{place}/net"
    words = [word.format(netns=point) for word in request("", tcp=tcp, udp=udp).command]
    with open(point, "wb"):
        pass
    with open(f"{place}/carrier.log", "wb") as messages:
        carrier = subprocess.Popen(
            [*_NAMING, f"/proc/{pid}/ns/net", point, *words],
            stdin=subprocess.DEVNULL,
            stdout=messages,
            stderr=messages,
            start_new_session=True,
            cwd="/",
        )
    until = time.monotonic() + _CONNECTED_SECONDS
    while carrier.poll() is None and time.monotonic() < until:
        with open(f"/proc/{pid}/net/route", encoding="ascii") as routes:
            if any(line.split()[1:2] == [_DEFAULT_ROUTE] for line in routes):
                carrier.returncode = 0  # it stays when this process ends: nobody waits for it
                return processes.mark(carrier.pid)
        time.sleep(_PAUSE_SECONDS)
    carrier.kill()
    carrier.wait()
    with open(f"{place}/carrier.log", encoding="utf-8", errors="replace") as file:
        said = file.read().strip().splitlines()[-1:]
    message = f"the instance's network can't be made: {' '.join(said)}"
    raise BoxwrightError("deploy.network", message, hint="'boxwright doctor' may help")
