"""Rules of networks as each container has them, and the text for nft(8) that enforces them in an instance. Pure.

Rules name containers, whose addresses come and go. So each container has a part of the network to itself: what an
instance is told holds whatever the others do, and nobody need be told again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping

from boxwright.deploy.addresses import gateway, part_of
from boxwright.deploy.naming import PORT, RESOLVER
from boxwright.model.deployment import UPLINK, Backend, Guard, GuardRule, InstanceSpec
from boxwright.model.rules import ANY, Rule, parse_rule, subnet_text
from boxwright.model.stack import StackNetwork

ACCEPT, REJECT = "accept", "reject"
_FEWEST_PARTS = 16
_BOTH = ("udp", "tcp")


def guards_of(
    container: str, networks: Iterable[tuple[StackNetwork, tuple[str, ...]]], granted: Iterable[Rule]
) -> tuple[Guard, ...]:
    """Of the networks that have rules, each given with the names of the containers in it.

    `granted` is accepted unless a `deny` names it: what the load balancer needs.
    """
    found: list[Guard] = []
    for network, names in networks:
        if container not in names or not (network.allow or network.deny):
            continue
        parts = parts_of(names)
        denied = [(REJECT, parse_rule(text)) for text in network.deny]
        accepted = [(ACCEPT, parse_rule(text)) for text in network.allow]
        rules = [*denied, *((ACCEPT, it) for it in granted if set(it.names) <= set(names)), *accepted]
        end = GuardRule(REJECT if network.allow else ACCEPT)
        ways = (
            tuple(_sided(rules, container, parts, outgoing=True)),
            tuple(_sided(rules, container, parts, outgoing=False)),
        )
        found.append(Guard(network.name, _width(names), parts[container], (*ways[0], end), (*ways[1], end)))
    return tuple(found)


def parts_of(names: Collection[str]) -> dict[str, int]:
    """For each container its part of a network, by its name; part 0 has the gateway, and nobody else."""
    width = _width(names)
    found = {RESOLVER: width - 1} if RESOLVER in names else {}  # its addresses are the last ones
    for name in sorted(set(names) - {RESOLVER}):
        part = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % width
        while part == 0 or part in found.values():
            part = (part + 1) % width
        found[name] = part
    return found


def _width(names: Collection[str]) -> int:
    """A power of two, above the number of containers."""
    return 1 << max(_FEWEST_PARTS - 1, len(names)).bit_length()


def granted_to(balancer: str, backends: Iterable[Backend], *, resolver: bool) -> tuple[Rule, ...]:
    """What a load balancer asks of those behind it, and everybody of a resolver."""
    ports = {(it.container, port) for it in backends for port in (it.port, it.health.port) if port}
    found = [Rule(balancer, container, "tcp", port, port) for container, port in sorted(ports)]
    if resolver:
        found += [Rule(*it, protocol, PORT, PORT) for it in ((ANY, RESOLVER), (RESOLVER, ANY)) for protocol in _BOTH]
    return tuple(found)


def _sided(
    rules: Iterable[tuple[str, Rule]], container: str, parts: Mapping[str, int], *, outgoing: bool
) -> Iterator[GuardRule]:
    """As the container on one side of them sees them."""
    for action, rule in rules:
        own, peer = (rule.source, rule.target) if outgoing else (rule.target, rule.source)
        if own in (container, ANY) or subnet_text(own) is not None:
            yield GuardRule(action, _peer(peer, parts), subnet_text(own) or "", rule.protocol, rule.first, rule.last)


def _peer(text: str, parts: Mapping[str, int]) -> str:
    if text == ANY:
        return ""
    return f"#{parts[text]}" if text in parts else text


# The text -------------------------------------------------------------------------------------------------------------


def rules_text(spec: InstanceSpec, subnets: Mapping[str, str]) -> str:
    """For nft(8), empty where no network of the instance has rules. `subnets` by network.

    What comes from, or goes to, no network of the instance is under the rules of its first one.
    """
    if not spec.guards:
        return ""
    guards = {it.network: it for it in spec.guards}
    lines = ["table inet boxwright", "delete table inet boxwright", "table inet boxwright {"]
    for way, hook, side in (("outgoing", "output", "daddr"), ("incoming", "input", "saddr")):
        lines += [f"  chain {way} {{", f"    type filter hook {hook} priority 0; policy accept;"]
        lines += [f"    {'oif' if side == 'daddr' else 'iif'} lo accept", "    ct state established,related accept"]
        lines.append("    meta nfproto ipv6 reject")
        if spec.uplink:
            lines += [f"    {'oif' if side == 'daddr' else 'iif'}name {UPLINK} accept", "    ip protocol vrrp accept"]
        if side == "saddr":
            # The machine itself may look whether an instance is well.
            lines += [f"    ip saddr {gateway(subnets[it])} accept" for it in spec.networks]
            lines += [f"    {it}" for it in _published(spec, subnets)]
        for network in spec.networks:
            body = _body(guards.get(network), side, way, subnets[network])
            lines += [f"    ip {side} {subnets[network]} {it}" for it in body]
        first = spec.networks[0]
        lines += [f"    {it}" for it in _body(guards.get(first), side, way, subnets[first])]
        lines.append("  }")
    return "\n".join([*lines, "}"]) + "\n"


def _published(spec: InstanceSpec, subnets: Mapping[str, str]) -> Iterator[str]:
    """A published port is open to everybody outside."""
    inside = ", ".join(subnets[it] for it in spec.networks)
    for protocol, port in sorted({(it.port.protocol, it.port.container) for it in spec.ports}):
        yield f"ip saddr != {{ {inside} }} {protocol} dport {port} accept"


def _body(guard: Guard | None, side: str, way: str, subnet: str) -> Iterator[str]:
    if guard is None:
        yield ACCEPT
        return
    for rule in guard.outgoing if way == "outgoing" else guard.incoming:
        words: list[str] = []
        if rule.own:
            words.append(f"ip {'saddr' if side == 'daddr' else 'daddr'} {rule.own}")
        if rule.peer:
            part = rule.peer.removeprefix("#")
            peer = part_of(subnet, guard.parts, int(part)) if rule.peer.startswith("#") else rule.peer
            words.append(f"ip {side} {peer}")
        if rule.first:
            ports = str(rule.first) if rule.first == rule.last else f"{rule.first}-{rule.last}"
            words.append(f"{rule.protocol} dport {ports}")
        verdict = "reject with icmpx type admin-prohibited" if rule.action == REJECT else ACCEPT
        yield " ".join((*words, verdict))
