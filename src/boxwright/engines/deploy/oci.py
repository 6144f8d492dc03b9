"""Stacks on podman and docker, by their programs, whose words are the same but for a few.

What is remembered of a stack lies in a volume of its own, labelled like everything else; instances see its file `hosts`
as /etc/hosts, and their own files out of it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from boxwright.engines.bridges import hardware_address, machine_subnets
from boxwright.engines.deploy.directories import COPYING_SECONDS, DirectoryVolumes, unknown_volume
from boxwright.engines.deploy.program import Program, says_gone
from boxwright.engines.documents import StackDirectory
from boxwright.engines.exchange import exchange
from boxwright.engines.lacking import pool_lacks, refuse_moving_address
from boxwright.engines.nftrules import RULES, load_rules, read_rules, require_nft, write_rules
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import (
    CREATED,
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

_STATES = {"running": RUNNING, "created": CREATED, "configured": CREATED, "initialized": CREATED}
_MEMORY = "boxwright"
"""The name of the volume in which things about a stack are remembered."""

SECRETS = "secrets"
_CHUNK = 1 << 16


class ConnectInside(Protocol):
    """Connects from inside a network namespace."""

    def __call__(self, namespace: str, address: tuple[str, int], timeout: float) -> socket.socket:
        """Raises OSError."""
        ...


class Hooks:
    """What the engine is given from elsewhere: how an image of the store is loaded, how a port is reached."""

    def __init__(
        self,
        load: Callable[[str, str], None],
        connect: ConnectInside,
        executed: Callable[[int, bytes], Any],
        state: Callable[[str, int | None], Any],
    ) -> None:
        self.load = load
        self.connect = connect
        self.executed = executed
        self.state = state


class OciStacks(DirectoryVolumes):
    """The stacks of podman or docker on this machine."""

    _isolating: tuple[str, ...] = ("--opt", "isolate=true")
    """Podman passes packets on between its networks unless it is told not to."""

    def __init__(self, name: str, program: Program, hooks: Hooks) -> None:
        self.name = name
        self._run = program
        self._hooks = hooks
        self._directory = StackDirectory(self._memory)
        self._places: dict[str, str] = {}
        self._version: tuple[int, ...] | None = None

    def lacks(self, desired: Desired) -> Sequence[str]:
        """One host, volumes without sizes."""
        found = [f"{it.logical}: {self.name} knows one host" for it in desired.instances if it.placement.on]
        found += [f"volume {it.name}: {self.name} keeps to no size" for it in desired.volumes if it.size]
        found += pool_lacks(self.name, desired)
        found += [f"volume {it.name}: copies need other members" for it in desired.volumes if it.replicate > 1]
        refuse_moving_address(self.name, desired)
        for it in desired.networks:
            if it.allow or it.deny:
                require_nft(it.name)
        found += [
            f"{it.logical}: `restart: {it.restart}` is done by 'boxwright watch', which sets its networks' rules"
            for it in desired.instances
            if it.guards and it.restart not in ("", "no")
        ]
        if os.geteuid() != 0:
            message = f"stacks on {self.name} need root: the network of an instance could not be reached"
            raise BoxwrightError("deploy.engine-lacks", message, hint="use the engine native as an ordinary user")
        return tuple(dict.fromkeys(found))

    # The memory -------------------------------------------------------------------------------------------------------

    def _memory(self, stack: str) -> str:
        """The directory of a stack's memory; one that is not there where there is none yet."""
        if stack not in self._places:
            found = self._run.objects("volume", "inspect", self._volume_name(stack, _MEMORY))
            if not found:
                return "/nonexistent"
            self._places[stack] = str(found[0]["Mountpoint"])
        return self._places[stack]

    def hosts(self) -> int:
        """One."""
        return 1

    def machine(self) -> str:
        """That of this machine."""
        return os.uname().machine

    def stacks(self) -> Sequence[str]:
        """Those that have a memory."""
        names = self._run("volume", "ls", "-q", "--filter", f"label={LABEL}stack").split()
        return tuple(it.removesuffix(f".{_MEMORY}") for it in names if it.endswith(f".{_MEMORY}"))

    def lock(self, stack: str, patience: float) -> AbstractContextManager[None]:
        """Held while a stack is changed. The memory is made with it."""
        self._make_memory(stack)
        return self._directory.lock(stack, patience)

    def copying(self, stack: str, patience: float = 0.0) -> AbstractContextManager[None]:
        """Held while its volumes are copied."""
        self._make_memory(stack)
        return self._directory.copying(stack, patience)

    def _make_memory(self, stack: str) -> None:
        name = self._volume_name(stack, _MEMORY)
        if not self._run.objects("volume", "inspect", name):
            try:
                self._run("volume", "create", "--label", f"{LABEL}stack={stack}", name)
            except BoxwrightError:
                if not self._run.objects("volume", "inspect", name):
                    raise  # nobody else has made it meanwhile

    def read_document(self, stack: str, name: str) -> bytes | None:
        """What was written under a name."""
        return self._directory.read(stack, name)

    def write_document(self, stack: str, name: str, data: bytes | None) -> None:
        """Keep something under a name."""
        self._directory.write(stack, name, data)

    def write_documents(self, stack: str, documents: Mapping[str, bytes | None]) -> None:
        """Keep several things, or remove those that are None."""
        for name, data in documents.items():
            self.write_document(stack, name, data)

    def forget(self, stack: str, *, keep_secrets: bool) -> None:
        """Remove the memory, or all of it but the secrets."""
        if not keep_secrets:
            self._run("volume", "rm", self._volume_name(stack, _MEMORY), check=False)
            return
        for name in self._directory.names(stack):
            if name != SECRETS:
                self._directory.write(stack, name, None)

    # What is there ----------------------------------------------------------------------------------------------------

    def observe(self, stack: str) -> Observed:
        """By labels."""
        with ThreadPoolExecutor(3) as pool:
            instances = pool.submit(self._instances, stack)
            networks = pool.submit(self._networks)
            volumes = pool.submit(self._volumes, stack)
        own = [it for it in networks.result() if _labels(it).get(f"{LABEL}stack") == stack]
        others = [subnet for it in networks.result() if it not in own for subnet in _subnets(it)]
        machine = machine_subnets()
        return Observed(
            tuple(instances.result()),
            tuple(_network(it) for it in own),
            tuple(volumes.result()),
            (*others, *machine.routed),
            held=(*others, *machine.connected),
        )

    def _instances(self, stack: str) -> list[Instance]:
        names = self._run("ps", "-aq", "--filter", f"label={LABEL}stack={stack}").split()
        if not names:
            return []
        found = (self._instance(it) for it in self._run.objects("inspect", "--type", "container", *names))
        return [it for it in found if it is not None]

    def _instance(self, raw: dict[str, Any]) -> Instance | None:
        state = _state(raw)
        labels = raw.get("Config", {}).get("Labels") or {}
        found = labelled_instance(str(raw["Name"]).lstrip("/"), labels, state)
        if found is None:
            return None
        code = raw["State"].get("ExitCode") if state == STOPPED else None
        ports = tuple(_ports(raw)) if state == RUNNING else ()
        return found._replace(exit_code=code, started=_time(raw["State"].get("StartedAt", "")), ports=ports)

    def _networks(self) -> list[dict[str, Any]]:
        names = self._run("network", "ls", "-q").split()
        return self._run.objects("network", "inspect", *names) if names else []

    def _volumes(self, stack: str) -> list[str]:
        names = self._run("volume", "ls", "-q", "--filter", f"label={LABEL}stack={stack}").split()
        prefix = f"{stack}."
        return sorted(it.removeprefix(prefix) for it in names if it != self._volume_name(stack, _MEMORY))

    def _inspected(self, instance: str) -> dict[str, Any] | None:
        found = self._run.objects("inspect", "--type", "container", instance)
        return found[0] if found else None

    def state(self, instance: str) -> Any:  # noqa: ANN401  as the hook makes it
        """What an instance does now."""
        raw = self._inspected(instance)
        if raw is None:
            return self._hooks.state(LOST, None)
        state = _state(raw)
        return self._hooks.state(state, raw["State"].get("ExitCode") if state == STOPPED else None)

    # Images, networks, volumes ----------------------------------------------------------------------------------------

    def provide_image(self, identity: str, name: str) -> None:
        """Load it from the store where it is not there."""
        del name
        if not self._run.objects("image", "inspect", _reference(identity)):
            self._hooks.load(identity, _reference(identity))

    def makes_beside(self, network: NetworkSpec) -> bool:
        """An instance is put into its networks when it is made."""
        del network
        return False

    def drop_images(self, stack: str, identities: Sequence[str]) -> Collection[str]:
        """Remove images that nothing uses."""
        del stack
        for identity in identities:
            self._run("rmi", _reference(identity), check=False)
        return [it for it in identities if not self._run("images", "-q", _reference(it)).strip()]

    def create_network(self, stack: str, spec: NetworkSpec) -> None:
        """A bridge of the engine's."""
        name = self._network_name(stack, spec.name)
        words = ["--label", f"{LABEL}stack={stack}", "--label", f"{LABEL}network={spec.name}"]
        if spec.internal:
            words.append("--internal")
        self._run("network", "create", "--subnet", spec.subnet, *self._isolating, *words, name)

    def delete_network(self, stack: str, name: str) -> None:
        """Remove it."""
        self._remove("network", "rm", self._network_name(stack, name))

    def create_volume(self, stack: str, spec: VolumeSpec) -> None:
        """A volume of the engine's."""
        self._run("volume", "create", "--label", f"{LABEL}stack={stack}", self._volume_name(stack, spec.name))

    def delete_volume(self, stack: str, name: str) -> None:
        """Remove it with its content and its snapshots."""
        with self.copying(stack, COPYING_SECONDS):
            self._remove("volume", "rm", self._volume_name(stack, name))
            shutil.rmtree(self.snapshots_directory(stack, name), ignore_errors=True)

    def volume_directory(self, stack: str, volume: str) -> str:
        """Its mount point. Raises BoxwrightError `volume.unknown`, `deploy.engine-lacks` where that is not here."""
        found = self._run.objects("volume", "inspect", self._volume_name(stack, volume))
        if not found or volume == _MEMORY:
            raise unknown_volume(stack, volume)
        place = str(found[0].get("Mountpoint") or "")
        if not os.path.isdir(place):
            message = f"the files of the volume {volume} are on another machine, or {self.name} does not show them"
            raise BoxwrightError("deploy.engine-lacks", message, hint="run it where they are")
        return place

    def snapshots_directory(self, stack: str, volume: str) -> str:
        """In the stack's memory."""
        return f"{self._memory(stack)}/snapshots/{volume}"

    def _remove(self, *words: str) -> None:
        """What is not there need not be removed."""
        done = self._run.run(words)
        if done.returncode and not says_gone(done.stderr):
            said = done.stderr.decode(errors="replace").strip()
            raise BoxwrightError("deploy.engine-failed", f"'{self.name} {' '.join(words[:2])}' failed: {said}")

    @staticmethod
    def _network_name(stack: str, name: str) -> str:
        return f"{stack}_{name}"

    @staticmethod
    def _volume_name(stack: str, name: str) -> str:
        return f"{stack}.{name}"

    # Instances --------------------------------------------------------------------------------------------------------

    def create(self, new: NewInstance) -> None:
        """Make it with its files; nothing is started. It is not asked first: that would cost as much as making it.

        Raises BoxwrightError `deploy.taken` where an instance of this name runs, which nobody can have left.
        """
        try:
            self._create(new)
        except BoxwrightError:
            found = self._inspected(new.name)
            if found is None:
                raise
            if _state(found) == RUNNING and f"{LABEL}stack" in (found["Config"].get("Labels") or {}):
                hint = "do it again: what runs is looked at first"
                raise BoxwrightError("deploy.taken", f"{new.name} runs already", hint=hint) from None
            self.delete(new.name)
            self._create(new)

    def _create(self, new: NewInstance) -> None:
        spec = new.spec
        words = ["create", "--name", new.name, "--hostname", spec.logical]
        for key, value in new.labels:
            words += ["--label", f"{key}={value}"]
        for key, value in new.env:
            words += ["--env", f"{key}={value}"]
        words += self._mounts(new)
        for it in spec.ports:
            host = f"{it.port.host or ''}:" if it.port.host or it.address else ""
            address = f"{it.address}:" if it.address else ""
            words += ["--publish", f"{address}{host}{it.port.container}/{it.port.protocol}"]
        words += self._network_words(new)
        if spec.user:
            words += ["--user", spec.user]
        if spec.stop_signal:
            words += ["--stop-signal", spec.stop_signal]
        if spec.restart and spec.restart != "no" and not new.rules:
            words += ["--restart", spec.restart]
        words += ["--workdir", spec.directory or "/", "--entrypoint", spec.argv[0]]
        self._keep_rules(new)
        self._run(*words, _reference(spec.image), *spec.argv[1:])
        self._connect_more(new)

    def _mounts(self, new: NewInstance) -> list[str]:
        words = ["--volume", f"{self._directory.hosts(new.stack)}:/etc/hosts:ro"]
        for it in new.spec.mounts:
            mode = ":ro" if it.read_only else ""
            if it.kind == "own":
                words += ["--volume", it.target]
            else:
                source = os.path.abspath(it.source) if it.kind == "path" else self._volume_name(new.stack, it.source)
                words += ["--volume", f"{source}:{it.target}{mode}"]
        place = self._files_place(new.stack, new.name)
        if new.files:
            os.makedirs(place, mode=0o711, exist_ok=True)
        for number, (target, data, mode_bits) in enumerate(new.files):
            path = f"{place}/{number}"
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(data)
            os.chmod(path, mode_bits)
            words += ["--volume", f"{path}:{target}:ro"]
        return words

    def _keep_rules(self, new: NewInstance) -> None:
        """Where `start` finds them."""
        if new.rules:
            place = self._files_place(new.stack, new.name)
            os.makedirs(place, mode=0o711, exist_ok=True)
            write_rules(f"{place}/{RULES}", new.rules)

    def _set_rules(self, instance: str, rules: str) -> None:
        """In its network namespace, once it has one."""
        raw = self._inspected(instance) or {}
        pid = raw.get("State", {}).get("Pid")
        if not pid:
            raise BoxwrightError("deploy.ended", f"{instance} ended before its networks' rules were set")
        load_rules(f"/proc/{pid}/ns/net", rules)

    def _rules_of(self, instance: str) -> str:
        """Without asking the engine: whoever starts an instance has locked its stack, and knows its memory."""
        near = [place for stack, place in self._places.items() if instance.startswith(f"{stack}-")]
        found = (read_rules(f"{place}/files/{instance}/{RULES}") for place in near)
        return next((text for text in found if text), "")

    def _files_place(self, stack: str, instance: str) -> str:
        return f"{self._memory(stack)}/files/{instance}"

    def _network_words(self, new: NewInstance) -> list[str]:
        """All networks at once, each with the address that was given out."""
        if not new.addresses:
            return ["--network", "none"]
        words: list[str] = []
        for network, address in new.addresses:
            name = self._network_name(new.stack, network)
            words += ["--network", f"{name}:ip={address},mac={hardware_address(address)}"]
        return words

    def _connect_more(self, new: NewInstance) -> None:
        """For a program that takes one network when an instance is made."""

    def start(self, instance: str) -> None:
        """Start it. With rules it is made first, with its network but without its program."""
        if rules := self._rules_of(instance):
            self._run("init", instance)
            self._set_rules(instance, rules)
        self._run("start", instance)

    def stop(self, instance: str, seconds: float) -> None:
        """Ask it to end; kill it after `seconds`."""
        self._remove("stop", "--time", str(max(0, round(seconds))), instance)

    def delete(self, instance: str) -> None:
        """Remove it with its own volumes, running or not."""
        raw = self._inspected(instance)
        if raw is None:
            return
        stack = (raw.get("Config", {}).get("Labels") or {}).get(f"{LABEL}stack")
        if stack is None:
            message = f"there is a container {instance} that is no stack's"
            raise BoxwrightError("deploy.name-taken", message, hint=f"{self.name} rm {instance}, or rename the stack")
        self._remove("rm", "--force", "--volumes", instance)
        shutil.rmtree(self._files_place(stack, instance), ignore_errors=True)

    # Inside an instance -----------------------------------------------------------------------------------------------

    def execute(self, instance: str, argv: Sequence[str], timeout: float, stdin: bytes = b"") -> Any:  # noqa: ANN401  the hook's
        """Run a command in a running instance as root."""
        options = ("--interactive",) if stdin else ()
        words = ("exec", "--user", "0", *options, instance, *argv)
        done = self._run.run(words, timeout=timeout, stdin=stdin)
        return self._hooks.executed(done.returncode, done.stdout + done.stderr)

    def attach(self, instance: str, argv: Sequence[str], *, terminal: bool, stdin: bool) -> int:
        """The same on this process's own streams, as the instance's user."""
        options = [*(["--tty"] if terminal else []), *(["--interactive"] if stdin or terminal else [])]
        words = [self._run.path, "exec", *options, instance, *argv]
        return subprocess.run(words, stdin=None if stdin or terminal else subprocess.DEVNULL, check=False).returncode

    def logs(self, instance: str, follow: Callable[[], bool]) -> Iterator[bytes]:
        """What it wrote, both streams."""
        words = [self._run.path, "logs", *(["--follow"] if follow() else []), instance]
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as it:
            assert it.stdout is not None  # noqa: S101  for the type checker
            try:
                while data := os.read(it.stdout.fileno(), _CHUNK):
                    yield data
            finally:
                it.terminate()

    def exchange(self, instance: str, port: int, request: bytes, timeout: float) -> bytes:
        """Ask a port from inside the instance's own network."""
        return exchange(self._connect(instance, port, timeout), request, timeout)

    def _connect(self, instance: str, port: int, timeout: float) -> socket.socket:
        raw = self._inspected(instance)
        pid = raw["State"].get("Pid") if raw else 0
        if raw is None or not pid:
            raise OSError("it does not run")
        found = labelled_instance(instance, raw["Config"].get("Labels") or {}, RUNNING)
        address = next((address for _, address in found.addresses), "127.0.0.1") if found else "127.0.0.1"
        return self._hooks.connect(f"/proc/{pid}/ns/net", (address, port), timeout)

    def put(self, instance: str, path: str, data: bytes, mode: int) -> None:
        """Write the file in place: the instance has this very file mounted, and with its mode."""
        del mode
        raw = self._inspected(instance)
        mounts = raw.get("Mounts") or [] if raw else []
        for mount in mounts:
            if mount.get("Destination") == path:
                with open(mount["Source"], "r+b") as file:
                    file.write(data)
                    file.truncate()
                return
        raise BoxwrightError("deploy.file", f"{instance} was given no file {path}")

    def publish_names(self, stack: str, hosts: str) -> None:
        """One file serves all instances."""
        self._directory.write_hosts(stack, hosts)


class DockerStacks(OciStacks):
    """Docker takes one network when a container is made, before 25.0."""

    _isolating = ()

    def _network_words(self, new: NewInstance) -> list[str]:
        if not new.addresses:
            return ["--network", "none"]
        network, address = new.addresses[0]
        words = ["--network", self._network_name(new.stack, network), "--ip", address]
        # Until 1.44 a network's hardware address can't be given; the engine makes it of the address itself.
        return [*words, "--mac-address", hardware_address(address)] if self._takes_hardware_address() else words

    def _takes_hardware_address(self) -> bool:
        if self._version is None:
            text = self._run("version", "--format", "{{.Server.APIVersion}}").strip()
            numbers = tuple(int(part) for part in text.split(".") if part.isdecimal())
            self._version = numbers
        return self._version >= (1, 44)

    def start(self, instance: str) -> None:
        """Start it. Docker gives it its network and its program at once; what it can reach inside has rules already."""
        self._run("start", instance)
        if rules := self._rules_of(instance):
            self._set_rules(instance, rules)

    def _connect_more(self, new: NewInstance) -> None:
        for network, address in new.addresses[1:]:
            self._run("network", "connect", "--ip", address, self._network_name(new.stack, network), new.name)


def _reference(identity: str) -> str:
    return f"localhost/boxwright/stack:{identity.removeprefix('sha256:')[:24]}"


def _network(found: Mapping[str, Any]) -> Network:
    """A network of a stack; podman and docker say otherwise whether it leads out."""
    internal = found.get("internal", found.get("Internal"))
    return Network(_labels(found)[f"{LABEL}network"], next(iter(_subnets(found)), ""), True, internal)


def _labels(network: Mapping[str, Any]) -> dict[str, str]:
    return network.get("labels") or network.get("Labels") or {}


def _subnets(network: Mapping[str, Any]) -> list[str]:
    """As podman and as docker has them."""
    ipam = network.get("IPAM") or {}
    found = [it.get("subnet") for it in network.get("subnets") or []]
    found += [it.get("Subnet") for it in ipam.get("Config") or []]
    return [it for it in found if it and ":" not in it]


def _state(raw: Mapping[str, Any]) -> str:
    return _STATES.get(str(raw["State"].get("Status", "")).lower(), STOPPED)


def _time(text: str) -> float:
    try:
        return datetime.fromisoformat(text[:19] + "+00:00").timestamp()
    except ValueError:
        return 0.0


def _ports(raw: Mapping[str, Any]) -> Iterator[str]:
    for inside, bound in (raw.get("NetworkSettings", {}).get("Ports") or {}).items():
        for it in bound or ():
            yield f"{it.get('HostIp') or '*'}:{it.get('HostPort')}->{inside}"
