"""What of a plan can't be done, found before anything is changed. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from boxwright.deploy.planning import CREATE, NETWORK, REPLACE, WAIT, DeployPlan
from boxwright.errors import BoxwrightError, DefinitionError
from boxwright.model.deployment import Desired, NetworkSpec, Observed, VolumeSpec
from boxwright.model.stack import Stack
from boxwright.model.volumes import VolumeState, size_text


def check_networks(desired: Desired, observed: Observed, plan: DeployPlan, stack: Stack | None = None) -> None:
    """Networks that are to be made can be. `stack` knows where they are named.

    Raises BoxwrightError `deploy.subnet-taken`, and `deploy.member-away` where one is to be replaced.
    """
    there = {(it.name, it.subnet) for it in observed.networks}
    specs = {it.name: it for it in desired.networks}
    for change in plan.of(NETWORK, WAIT):
        message = f"the network {change.name} can't be replaced now: {change.reason}"
        raise BoxwrightError("deploy.member-away", message, hint="LXD makes a network on all members, or not at all")
    for change in plan.of(NETWORK, CREATE, REPLACE):
        spec = specs[change.name]
        if spec.subnet and (spec.name, spec.subnet) not in there:
            _check_subnet(spec, observed, plan, stack)


def _check_subnet(spec: NetworkSpec, observed: Observed, plan: DeployPlan, stack: Stack | None) -> None:
    """Nobody else has it. One of the stack's own is in the way unless it is replaced too."""
    own = {it.subnet for it in observed.networks}
    goes = {spec.name, *(it.name for it in plan.of(NETWORK, REPLACE))}
    others = [(it.subnet, f"the network {it.name} of this stack") for it in observed.networks if it.name not in goes]
    others += [(it, "another network, or this machine") for it in observed.held if it not in own]
    meeting = next((it for it in others if it[0] and _overlap(spec.subnet, it[0])), None)
    if meeting is not None:
        message = f"the subnet {spec.subnet} of {spec.name} is taken: {meeting[1]} has {meeting[0]}"
        hint = "name another one, or none: then a free one is chosen"
        where = stack.where("networks", spec.name, "subnet") if stack else None
        raise DefinitionError("deploy.subnet-taken", message, hint=hint, where=where)


def _overlap(one: str, other: str) -> bool:
    return ipaddress.IPv4Network(one, strict=False).overlaps(ipaddress.IPv4Network(other, strict=False))


def check_volumes(desired: Desired, observed: Observed, stack: Stack) -> None:
    """What is said of volumes that are there can come true. Raises DefinitionError `deploy.volume-fixed`."""
    states = {it.name: it for it in observed.states}
    for spec in desired.volumes:
        state = states.get(spec.name)
        if state is None:
            continue
        where = stack.where("volumes", spec.name) or stack.where("volumes", spec.name.rpartition("-")[0])
        for message, hint in (*_smaller(spec, state), *_elsewhere(spec, state, desired.stack)):
            raise DefinitionError("deploy.volume-fixed", message, hint=hint, where=where)


def _smaller(spec: VolumeSpec, state: VolumeState) -> Iterable[tuple[str, str]]:
    if 0 < spec.size < state.size:
        now = size_text(state.size)
        message = f"the volume {spec.name} has {now}, and can't become as small as {size_text(spec.size)}"
        yield message, f"say `size: {now}`, or more; without `size` it stays as it is"


def _elsewhere(spec: VolumeSpec, state: VolumeState, stack: str) -> Iterable[tuple[str, str]]:
    if spec.pool and state.pools and spec.pool not in state.pools:
        message = f"the volume {spec.name} is in the pool {state.pools[0]}, and stays there"
        ways = f"'boxwright volume backup {stack}/{spec.name} FILE', deploy one of another name in {spec.pool}"
        hint = f"say `pool: {state.pools[0]}`; or {ways}, and 'boxwright volume restore' that file there"
        yield message, hint
