"""What engines of one host refuse."""

from __future__ import annotations

from boxwright.errors import BoxwrightError
from boxwright.model.deployment import Desired


def refuse_moving_address(engine: str, desired: Desired) -> None:
    """Raises BoxwrightError `deploy.engine-lacks` where a load balancer has an address that moves."""
    if desired.moving_address:
        message = f"the address {desired.moving_address} can't move on {engine}"
        hint = "load balancers share an address on LXD; without `address:` the ports of this machine lead to them"
        raise BoxwrightError("deploy.engine-lacks", message, hint=hint)
