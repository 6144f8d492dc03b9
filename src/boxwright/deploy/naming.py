"""Names of a stack as its resolver serves them: addresses, and where services are (RFC 2782). Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping

from boxwright.model.deployment import InstanceSpec, Service

RESOLVER = "dns"
RECORDS = "/etc/unbound/boxwright.conf"
RESOLVE = "/usr/local/lib/boxwright/resolve"
RESOLV_CONF = "/etc/resolv.conf"
NAMES = "names:"
"""The content of a file that says where names are looked up."""

PORT = 53
_TTL = 1
_SERVICES = {
    ("tcp", 22): "ssh", ("tcp", 25): "smtp", ("tcp", 80): "http", ("tcp", 389): "ldap", ("tcp", 443): "https",
    ("tcp", 3306): "mysql", ("tcp", 5432): "postgresql", ("tcp", 5672): "amqp", ("tcp", 6379): "redis",
    ("udp", 53): "domain", ("tcp", 53): "domain", ("udp", 514): "syslog",
}  # fmt: skip
"""As the registry of service names has them (RFC 6335)."""


def service_names(protocol: str, port: int, check: str) -> tuple[str, ...]:
    """What a port is called: its number, its registered name, and http where that is how it is checked."""
    known = _SERVICES.get((protocol, port))
    more = "http" if protocol == "tcp" and check == "http" else None
    return tuple(dict.fromkeys(it for it in (str(port), known, more) if it))


def resolver_addresses(subnet: str) -> tuple[str, str]:
    """The last two of a subnet: the next resolver has the one that the present one has not."""
    last = ipaddress.IPv4Network(subnet).broadcast_address
    return str(last - 1), str(last - 2)


def resolv_conf(subnet: str) -> str:
    """For resolv.conf(5): one of the two answers; the other one says at once that nobody listens there, or nothing."""
    lines = [f"nameserver {it}" for it in resolver_addresses(subnet)]
    return "\n".join([*lines, "options timeout:1 attempts:3"]) + "\n"


def records_text(
    services: Iterable[Service],
    present: Mapping[str, tuple[InstanceSpec, tuple[tuple[str, str], ...]]],
    weights: Mapping[str, int],
) -> str:
    """For unbound.conf(5). `present` are the instances that are well, by their names in the stack."""
    lines = ["# Written by boxwright from the instances that are there; it is written again when one comes or goes."]
    by_container: dict[str, list[str]] = {}
    for logical, (spec, addresses) in sorted(present.items()):
        by_container.setdefault(spec.container, []).append(logical)
        names = dict.fromkeys((*spec.aliases, logical))
        lines += [_record(name, "A", address) for _, address in addresses for name in names]
    for service in services:
        for logical in by_container.get(service.container, ()):
            data = f"0 {weights.get(logical, 10)} {service.port} {logical}."
            owners = _owners(service, present[logical][0].aliases)
            lines += [_record(owner, "SRV", data) for owner in owners]
    return "\n".join(lines) + "\n"


def _owners(service: Service, aliases: Iterable[str]) -> Iterator[str]:
    for alias in dict.fromkeys(aliases):
        for name in service.names:
            yield f"_{name}._{service.protocol}.{alias}"


def _record(owner: str, kind: str, data: str) -> str:
    return f"local-data: '{owner}. {_TTL} IN {kind} {data}'"
