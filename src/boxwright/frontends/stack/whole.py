"""What can be wrong with a stack as a whole: names that nobody has, cycles, ports and subnets that meet."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator

from boxwright.frontends.package.convert import place_of
from boxwright.frontends.package.document import Value
from boxwright.frontends.package.problem import nearest
from boxwright.frontends.stack.problem import wrong
from boxwright.model.rules import parse_rule
from boxwright.model.span import Span
from boxwright.model.stack import DEFAULT_NETWORK, Stack, StackContainer, StackNetwork, StackPublished, is_path

LARGEST_PREFIX = 29
OWN_VOLUME = "boxwright"
"""The volume in which things about a stack are remembered (podman, docker)."""
BALANCER = "lb"
RESOLVER = "dns"
"""The names of the containers that balance the load, and that answer questions for names."""


def check_stack(stack: Stack, document: Value, containers: str = "containers") -> Stack:
    """`stack`, where its parts fit together. `containers` is the key that they stand under. Raises DefinitionError."""
    if not stack.containers:
        raise wrong("empty", "a stack has at least one container", place_of(document, containers).span)
    names = {container.name for container in stack.containers}
    for container in stack.containers:
        _check_names(stack, container, names, document, containers)
    _check_replica_names(stack)
    _check_cycles(stack)
    _check_ports(stack)
    _check_subnets(stack, document)
    _check_balancers(stack, names, document)
    _check_failover(stack)
    _check_moving(stack, document)
    return stack._replace(places=tuple((".".join(path), span) for path, span in _places(stack, document)))


def _places(stack: Stack, document: Value) -> Iterator[tuple[tuple[str, ...], Span]]:
    """Where the parts stand that can be wrong still when it is planned."""
    for balancer in stack.balancers:
        yield ("loadbalancer", balancer.container), place_of(document, "loadbalancer", balancer.container).span
    for network in stack.networks:
        yield ("networks", network.name, "subnet"), place_of(document, "networks", network.name, "subnet").span
    for volume in stack.volumes:
        users = (it.where for it in stack.containers if any(use.source == volume.name for use in it.volumes))
        declared = place_of(document, "volumes", volume.name).span
        is_there = declared not in (place_of(document).span, place_of(document, "volumes").span)
        yield ("volumes", volume.name), declared if is_there else next(users, declared)


def _check_names(stack: Stack, container: StackContainer, names: set[str], document: Value, containers: str) -> None:
    for number, (target, _) in enumerate(container.links):
        where = place_of(document, containers, container.name, "links", number).span
        if target == container.name:
            raise wrong("link", f"the container {target} is linked with itself", where)
        if target not in names:
            raise wrong("link", f"there is no container {target!r}", where, hint=nearest(target, names))
    networks = {network.name for network in stack.networks} | {DEFAULT_NETWORK}
    for number, name in enumerate(container.networks):
        if name not in networks:
            where = place_of(document, containers, container.name, "networks", number).span
            raise wrong("network", f"there is no network {name!r}", where, hint=nearest(name, networks))
    secrets = {secret.name for secret in stack.secrets}
    for number, secret in enumerate(container.secrets):
        if secret.name not in secrets:
            where = place_of(document, containers, container.name, "secrets", number).span
            raise wrong("secret", f"there is no secret {secret.name!r}", where, hint=nearest(secret.name, secrets))
    _check_mounts(container)
    if container.database and container.replicas != 1:
        where = place_of(document, containers, container.name, "replicas").span
        hint = "a second server would need replication, which the stack's author must set up"
        message = f"the database {container.name} can't have {container.replicas} replicas"
        raise wrong("replicas", message, where, hint=hint)


def _check_mounts(container: StackContainer) -> None:
    for use in container.volumes:
        if use.source and not is_path(use.source) and not _is_volume_name(use.source):
            hint = "letters, digits, `.`, `_` and `-`; boxwright, and names that end in .G2 and the like, are its own"
            raise wrong("volume", f"{use.source!r} can't be the name of a volume", container.where, hint=hint)
    targets = [use.target for use in container.volumes if use.target]
    targets += [use.target for use in container.files] + [use.target for use in container.secrets]
    for target in targets:
        if targets.count(target) > 1:
            raise wrong("volume", f"{container.name}: two things are mounted on {target}", container.where)


def _check_replica_names(stack: Stack) -> None:
    """``web-2`` is the second replica of ``web``: no container may be called so."""
    names = {container.name for container in stack.containers}
    for container in stack.containers:
        found = re.fullmatch(r"(.+)-\d+", container.name)
        if found and found[1] in names:
            message = f"{container.name} is what a replica of {found[1]} is called"
            raise wrong("name", message, container.where, hint="choose another name")
    own = {BALANCER: bool(stack.balancers), RESOLVER: stack.resolver}
    for taken in stack.containers:
        if own.get(taken.name):
            what = "load balancer" if taken.name == BALANCER else "resolver"
            raise wrong("name", f"{taken.name} is the {what}'s name", taken.where, hint="choose another name")


def _check_cycles(stack: Stack) -> None:
    needs = {it.name: tuple(target for target, _ in it.after) for it in stack.containers}
    seen: set[str] = set()
    for container in stack.containers:
        cycle = _cycle(container.name, needs, (), seen)
        if cycle:
            shown = " -> ".join(cycle)
            raise wrong("cycle", f"containers wait for each other: {shown}", stack.container(cycle[0]).where)


def _cycle(name: str, needs: dict[str, tuple[str, ...]], above: tuple[str, ...], seen: set[str]) -> tuple[str, ...]:
    """The first cycle at or below `name`; what was `seen` has none below it."""
    if name in above:
        return (*above[above.index(name) :], name)
    if name in seen:
        return ()
    for target in needs.get(name, ()):
        if found := _cycle(target, needs, (*above, name), seen):
            return found
    seen.add(name)
    return ()


def _check_ports(stack: Stack) -> None:
    seen: list[tuple[StackPublished, str]] = []
    for container in stack.containers:
        for number, it in enumerate(container.ports):
            other = next((name for taken, name in seen if it.meets(taken)), None)
            if other is not None:
                where = container.port_places[number]
                message = f"port {it.port.host} is published by {other} already"
                raise wrong("port", message, where)
            seen.append((it, container.name))


def _is_volume_name(name: str) -> bool:
    """As engines take it, and not as Boxwright calls its own: its memory, a later generation, a copy."""
    good = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)
    return bool(good) and name != OWN_VOLUME and not re.search(r"\.(G[0-9]+|COPY\..+)$", name)


def _check_subnets(stack: Stack, document: Value) -> None:
    seen: list[tuple[str, ipaddress.IPv4Network]] = []
    for network in stack.networks:
        where = place_of(document, "networks", network.name, "subnet").span
        _check_rules(stack, network, document)
        if not network.subnet:
            continue
        subnet = _network(network.subnet)
        if subnet is None or subnet.prefixlen > LARGEST_PREFIX:
            hint = "the first address of a subnet, such as 10.60.0.0/24"
            raise wrong("subnet", f"{network.subnet} is no subnet", where, hint=hint)
        for other, taken in seen:
            if subnet.overlaps(taken):
                raise wrong("subnet", f"the subnets of {other} and {network.name} overlap", where)
        seen.append((network.name, subnet))


def _network(text: str) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Network(text)
    except ValueError:
        return None


def _check_rules(stack: Stack, network: StackNetwork, document: Value) -> None:
    """Each can be read, and names containers that are in the network."""
    there = {it.name for it in stack.containers if network.name in it.networks} | {BALANCER, RESOLVER}
    for key, texts in (("allow", network.allow), ("deny", network.deny)):
        for number, text in enumerate(texts):
            where = place_of(document, "networks", network.name, key, number).span
            try:
                rule = parse_rule(text)
            except ValueError:
                hint = "[FROM ->] TO[:PORT[-PORT][/udp]]; each a container, an IPv4 address or subnet, or *"
                raise wrong("rule", f"{text!r} is no rule", where, hint=hint) from None
            for name in rule.names:
                if name not in there:
                    message = f"there is no container {name!r} in the network {network.name}"
                    raise wrong("rule", message, where, hint=nearest(name, there))


def _check_balancers(stack: Stack, names: Iterable[str], document: Value) -> None:
    listening: dict[int, str] = {}
    for balancer in stack.balancers:
        where: Span = place_of(document, "loadbalancer", balancer.container).span
        if balancer.container not in names:
            hint = nearest(balancer.container, names)
            raise wrong("loadbalancer", f"there is no container {balancer.container!r}", where, hint=hint)
        if balancer.listen in listening:
            message = f"{listening[balancer.listen]} and {balancer.container} listen on port {balancer.listen}"
            raise wrong("loadbalancer", message, where)
        listening[balancer.listen] = balancer.container
        count = stack.container(balancer.container).replicas
        replicas = {f"{balancer.container}-{number + 1}" for number in range(count)}
        for name, _ in balancer.weights:
            if name not in replicas:
                raise wrong("loadbalancer", f"there is no replica {name!r}", where, hint=nearest(name, replicas))


def _check_failover(stack: Stack) -> None:
    """What is to be started from copies has a volume, and each of its volumes has copies."""
    replicate = {volume.name: volume.replicate for volume in stack.volumes}
    for container in stack.containers:
        if container.failover != "replica":
            continue
        own = [use.source for use in container.volumes if use.source and not is_path(use.source) and not use.read_only]
        if container.database and not own:
            own = [f"{container.name}-data"]
        without = next((name for name in own if replicate.get(name, 1) < 2), "")
        if not own or without:
            lacking = f"of its volume {without} there are no copies" if without else "it has no volume"
            hint = f"volumes: {{{without or 'NAME'}: {{replicate: 2}}}}"
            message = f"{container.name} can't be started from a copy: {lacking}"
            raise wrong("failover", message, container.where, hint=hint)


def _check_moving(stack: Stack, document: Value) -> None:
    """All balancers have an address that moves, on one network, or none has."""
    if not any(it.address or it.interface for it in stack.balancers):
        return
    first = stack.balancers[0]
    for balancer in stack.balancers:
        where = place_of(document, "loadbalancer", balancer.container).span
        if not balancer.address or not balancer.interface:
            hint = "with `address: 10.1.1.200/24` and `interface: eth0`; each balancer of the stack, or none"
            raise wrong(
                "loadbalancer", "an address that moves needs both an address and an interface", where, hint=hint
            )
        if balancer.interface != first.interface:
            raise wrong("loadbalancer", "all addresses that move are on one interface", where)
        try:
            valid = "/" in balancer.address and bool(ipaddress.IPv4Interface(balancer.address))
        except ValueError:
            valid = False
        if not valid or not re.fullmatch(r"[A-Za-z0-9._-]{1,15}", balancer.interface):
            hint = "an IPv4 address with its prefix, such as 10.1.1.200/24, and the name of an interface"
            raise wrong("loadbalancer", f"{balancer.address} on {balancer.interface} can't be", where, hint=hint)


def named_volumes(stack: Stack) -> tuple[str, ...]:
    """The names of all volumes that containers use, each once."""
    uses = (use.source for container in stack.containers for use in container.volumes)
    return tuple(dict.fromkeys(source for source in uses if source and not is_path(source)))
