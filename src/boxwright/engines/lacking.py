"""What several engines refuse, or do without."""

from __future__ import annotations

from boxwright.errors import BoxwrightError
from boxwright.model.deployment import Desired


def pool_lacks(engine: str, desired: Desired) -> list[str]:
    """Pools of an engine that has none."""
    named = [it.logical for it in desired.instances if it.pool]
    named += [f"volume {it.name}" for it in desired.volumes if it.pool]
    return [f"{it}: {engine} has no storage pools" for it in named]


def restart_lacks(desired: Desired) -> list[str]:
    """Restarts of an engine that does none by itself."""
    wanted = [it for it in desired.instances if it.restart not in ("", "no")]
    return [f"{it.logical}: `restart: {it.restart}` is done by 'boxwright watch'" for it in wanted]


def refuse_moving_address(engine: str, desired: Desired) -> None:
    """Raises BoxwrightError `deploy.engine-lacks` where a load balancer has an address that moves."""
    if desired.moving_address:
        message = f"the address {desired.moving_address} can't move on {engine}"
        hint = "load balancers share an address on LXD; without `address:` the ports of this machine lead to them"
        raise BoxwrightError("deploy.engine-lacks", message, hint=hint)
