"""Ports of the hosts that several instances want. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from boxwright.errors import DefinitionError
from boxwright.model.span import Span
from boxwright.model.stack import StackPublished


class PortClaim(NamedTuple):
    """A port of each of so many `hosts` that so many `replicas` of a container want; `where` it is said."""

    published: StackPublished
    container: str
    where: Span
    replicas: int = 1
    hosts: int = 1


def check_claims(claims: Sequence[PortClaim]) -> None:
    """Each port has one owner on each host. Raises DefinitionError `stack.port` at the later one of two that meet."""
    for claim in claims:
        if claim.published.port.host and claim.replicas > claim.hosts:
            raise _too_many(claim)
    for number, one in enumerate(claims):
        for other in claims[:number]:
            if one.published.meets(other.published):
                first, second = sorted((one, other), key=lambda it: (it.where.line, it.where.column))
                raise _met(first, second)


def _too_many(claim: PortClaim) -> DefinitionError:
    port = claim.published.port
    hosts = "one host" if claim.hosts == 1 else f"{claim.hosts} hosts"
    what = f"port {port.host}/{port.protocol} of {hosts}"
    message = f"{what} can't be that of {claim.replicas} replicas of {claim.container}"
    balanced = "; one of TCP that `ports` names is balanced where `loadbalancer` doesn't name its container"
    hint = f"leave the host's port out, and each has a free one{balanced if port.protocol == 'tcp' else ''}"
    return DefinitionError("stack.port", message, hint=hint, where=claim.where)


def _met(first: PortClaim, second: PortClaim) -> DefinitionError:
    port = second.published.port
    owner = "is published twice by" if first.container == second.container else "is that of"
    message = f"port {port.host}/{port.protocol} of the host, for {second.container}, {owner} {first.container}"
    hint = "each port of the host leads to one container; a load balancer publishes what it listens on"
    return DefinitionError("stack.port", message, hint=hint, where=second.where)
