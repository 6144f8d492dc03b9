"""What is live while a plan is applied: addresses in use, the names that instances see, the balancers' members."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from boxwright.deploy.addresses import hosts_text, next_address, part_of
from boxwright.deploy.balancing import CONFIGURATION, MOVING, TOOL, certificate_path, haproxy_text, keepalived_text
from boxwright.deploy.engine import DeployEngine
from boxwright.deploy.naming import RECORDS, RESOLVE, RESOLVER, records_text, resolver_addresses
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import RUNNING, Desired, Instance, InstanceSpec, Observed

_RELOAD_SECONDS = 15.0
BALANCER = "lb"

Addresses = tuple[tuple[str, str], ...]


class Told(NamedTuple):
    """A file that is written anew while its instance runs. With `kept` the text is the digest of what is in it."""

    text: str
    mode: int = 0o444
    kept: bool = False


class Live:
    """One for each application of a plan; any thread may use it."""

    def __init__(
        self,
        engine: DeployEngine,
        desired: Desired,
        observed: Observed,
        subnets: Mapping[str, str],
        content: Callable[[str], bytes],
    ) -> None:
        self._engine = engine
        self._content = content
        self._desired = desired
        self._subnets = subnets
        self._lock = threading.RLock()
        self._publishing = threading.Lock()
        self._used = {address for it in observed.instances for _, address in it.addresses}
        self._present: dict[str, tuple[InstanceSpec, Addresses]] = {}
        self._expected: dict[str, tuple[InstanceSpec, Addresses]] = {}
        self._balancers: dict[str, InstanceSpec] = {}
        self._resolvers: dict[str, InstanceSpec] = {}
        self._published = ""
        self._publications = 0
        self._given: dict[str, str] = {}
        self._told: dict[tuple[str, str], Told] = {}
        self._sharing: dict[str, tuple[int, str]] = {}
        newest = sorted(observed.instances, key=lambda it: (it.state == RUNNING, it.generation))
        for instance in newest:
            if instance.spec is not None and instance.spec.uplink and instance.addresses:
                self._sharing[instance.name] = (instance.number, instance.addresses[0][1])
            if instance.spec is not None and instance.state == RUNNING:
                self._present[instance.logical] = (instance.spec, instance.addresses)
                self._note_own(instance.name, instance.spec)

    def _note_own(self, name: str, spec: InstanceSpec) -> None:
        if spec.container == BALANCER and self._desired.backends:
            self._balancers[name] = spec
        if spec.container == RESOLVER and self._desired.services is not None:
            self._resolvers[name] = spec

    def allocate(self, spec: InstanceSpec) -> Addresses:
        """A free address in each network of an instance. Raises BoxwrightError `deploy.subnet-full`."""
        with self._lock:
            if spec.logical in self._expected:
                return self._expected[spec.logical][1]
            found: list[tuple[str, str]] = []
            guards = {it.network: it for it in spec.guards}
            for network in spec.networks:
                subnet, guard = self._subnets[network], guards.get(network)
                within = part_of(subnet, guard.parts, guard.part) if guard else ""
                address = self._special(spec, subnet) or next_address(subnet, self._avoided(subnet), within)
                self._used.add(address)
                found.append((network, address))
            return tuple(found)

    def expect(self, specs: Iterable[InstanceSpec]) -> None:
        """First instances of names that nobody has: the names lead to them at once, as no other one could answer.

        So a stack that is made is told its names once.
        """
        with self._lock:
            for spec in specs:
                self._expected[spec.logical] = (spec, self.allocate(spec))

    def expect_nothing(self) -> None:
        """Something failed: names of what does not run lead nowhere again."""
        with self._lock:
            expected, self._expected = self._expected, {}
        if expected:
            self.publish()

    def _special(self, spec: InstanceSpec, subnet: str) -> str:
        """A resolver has one of two addresses that everybody knows."""
        if spec.container != RESOLVER or self._desired.services is None:
            return ""
        return next((it for it in resolver_addresses(subnet) if it not in self._used), "")

    def _avoided(self, subnet: str) -> set[str]:
        return self._used if self._desired.services is None else self._used.union(resolver_addresses(subnet))

    def release(self, addresses: Iterable[tuple[str, str]]) -> None:
        """An instance that had them is gone."""
        with self._lock:
            gone = {address for _, address in addresses}
            self._used -= gone
            left = {name: it for name, it in self._sharing.items() if it[1] not in gone}
            if left != self._sharing:
                self._sharing = left
                self._tell_shares()

    def hosts(self) -> str:
        """/etc/hosts as it is now."""
        with self._lock:
            return hosts_text(
                (address, name)
                for _, (spec, addresses) in sorted({**self._expected, **self._present}.items())
                for _, address in addresses
                for name in (*spec.aliases, spec.logical)
            )

    def first_hosts(self, name: str) -> str:
        """/etc/hosts as an instance that is being made is given it."""
        with self._lock:
            self._given[name] = self.hosts()
            return self._given[name]

    def balancing(self, spec: InstanceSpec) -> dict[str, Told]:
        """A balancer's files as they are now: certificates, then the configuration that names them.

        One that was made without the file of a certificate does without TLS: it is about to be replaced.
        """
        with self._lock:
            members: dict[str, list[tuple[str, str]]] = {}
            for logical, (other, addresses) in sorted(self._present.items(), key=lambda it: it[1][0].number):
                if addresses:
                    members.setdefault(other.container, []).append((logical, addresses[0][1]))
        given = {it.path for it in spec.files}
        secure = {certificate_path(it): it.certificate for it in self._desired.backends if it.certificate}
        backends = (
            it if certificate_path(it) in given else it._replace(certificate="") for it in self._desired.backends
        )
        files = {path: Told(digest, 0o600, kept=True) for path, digest in secure.items() if path in given}
        return {**files, CONFIGURATION: Told(haproxy_text(backends, members))}

    def first_balancing(self, name: str, spec: InstanceSpec) -> dict[str, bytes]:
        """The files of a balancer that is being made."""
        with self._lock:
            return self._first(name, self.balancing(spec))

    def first_share(self, name: str, number: int, address: str) -> bytes:
        """What a new balancer is told of an address that moves; the others hear of it before it begins."""
        with self._lock:
            self._sharing[name] = (number, address)
            self._tell_shares()
            return self._first(name, {MOVING: self._share(name)})[MOVING]

    def _first(self, name: str, files: Mapping[str, Told]) -> dict[str, bytes]:
        self._told |= {(name, path): file for path, file in files.items()}
        return {path: self._bytes(file) for path, file in files.items()}

    def _bytes(self, file: Told) -> bytes:
        return self._content(file.text) if file.kept else file.text.encode()

    def _share(self, name: str) -> Told:
        others = sorted(address for other, (_, address) in self._sharing.items() if other != name)
        return Told(keepalived_text(self._desired.backends, self._sharing[name][0], others))

    def _tell_shares(self) -> None:
        for name in sorted(self._balancers.keys() & self._sharing.keys()):
            self._tell(self._balancers, name, {MOVING: self._share(name)}, (TOOL, "share"))

    def records(self) -> str:
        """What a resolver serves now."""
        with self._lock:
            weights = {name: weight for it in self._desired.backends for name, weight in it.weights}
            return records_text(self._desired.services or (), self._present, weights)

    def first_records(self, name: str) -> bytes:
        """What a resolver that is being made is told."""
        with self._lock:
            return self._first(name, {RECORDS: Told(self.records())})[RECORDS]

    def publish(self, given: str | None = None) -> None:
        """Tell every instance the names, where they changed, or one that has just started was `given` others.

        What changes while they are being told is told once more for all who wait, not for each.
        """
        entered = self._publications
        with self._publishing:
            text = self.hosts()
            told = given in (None, text) or self._publications > entered
            if text != self._published or not told:
                self._publications += 1
                self._engine.publish_names(self._desired.stack, text)
                self._published = text
        with self._lock:
            for name in sorted(self._resolvers):
                self._tell(self._resolvers, name, {RECORDS: Told(self.records())}, (RESOLVE, "reload"))

    def appear(self, spec: InstanceSpec, addresses: Addresses, name: str) -> None:
        """An instance is well: from now on its name leads to it, and requests may."""
        with self._lock:
            self._present[spec.logical] = (spec, addresses)
            self._expected.pop(spec.logical, None)
            self._note_own(name, spec)
            self._tell_shares()
            given = self._given.pop(name, None)
        self.publish(given)
        with self._lock:
            self._rebalance(spec.container)

    def disappear(self, logical: str, container: str, name: str, addresses: Addresses) -> None:
        """An instance is about to go: nothing leads to it any more, unless another one has taken its name."""
        with self._lock:
            self._balancers.pop(name, None)
            self._resolvers.pop(name, None)
            current = self._present.get(logical)
            if current is None or current[1] != addresses:
                return
            del self._present[logical]
        self.publish()
        with self._lock:
            self._rebalance(container)

    def lose(self, instance: Instance) -> None:
        """An instance was removed; nobody is told yet."""
        with self._lock:
            self._balancers.pop(instance.name, None)
            self._resolvers.pop(instance.name, None)
            self.release(instance.addresses)
            current = self._present.get(instance.logical)
            if current is not None and current[1] == instance.addresses:
                del self._present[instance.logical]

    def balances(self, container: str) -> bool:
        """Whether requests reach the instances of a container through a balancer that runs."""
        with self._lock:
            return bool(self._balancers) and any(it.container == container for it in self._desired.backends)

    def drain(self, container: str) -> None:
        """Wait until no request is under way that was sent before the balancers were told of the last change."""
        seconds = max((it.drain for it in self._desired.backends if it.container == container), default=0.0)
        for balancer in sorted(self._balancers):
            self._engine.execute(balancer, (TOOL, "drained", str(int(seconds))), seconds + _RELOAD_SECONDS)

    def _rebalance(self, container: str) -> None:
        if not self.balances(container) and container != BALANCER:
            return
        for name, spec in sorted(self._balancers.items()):
            self._tell(self._balancers, name, self.balancing(spec), (TOOL, "reload"))

    def _tell(
        self, names: dict[str, InstanceSpec], name: str, files: Mapping[str, Told], reload: tuple[str, ...]
    ) -> None:
        """Write files that are other ones now; who has died meanwhile is left out of `names` from now on."""
        other = {path: file for path, file in files.items() if self._told.get((name, path)) != file}
        if not other:
            return
        try:
            for path, data in self._first(name, other).items():
                self._engine.put(name, path, data, other[path].mode)
            done = self._engine.execute(name, reload, _RELOAD_SECONDS)
        except BoxwrightError:
            if self._engine.state(name).state == RUNNING:
                raise
            names.pop(name, None)
            return
        if done.status:
            said = done.output.decode(errors="replace").strip()
            code = "deploy.balancer" if names is self._balancers else "deploy.resolver"
            raise BoxwrightError(code, f"{name} does not take its configuration:\n{said}")


def present(instances: Iterable[Instance]) -> dict[str, Instance]:
    """For each logical name the newest instance that runs."""
    found: dict[str, Instance] = {}
    for instance in sorted(instances, key=lambda it: it.generation):
        if instance.state == RUNNING:
            found[instance.logical] = instance
    return found
