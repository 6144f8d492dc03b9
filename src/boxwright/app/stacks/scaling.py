"""Other numbers of replicas for what runs: everything else stays as the last release has it."""

from __future__ import annotations

from collections.abc import Mapping

from boxwright.app.stacks.deployment import last_release
from boxwright.app.stacks.images import balancer_facts, wants_balancer
from boxwright.deploy.applying import DEPLOYING
from boxwright.deploy.basis import Basis, basis_from_text, scaled
from boxwright.deploy.desired import BALANCER, ImageFacts
from boxwright.deploy.engine import DeployEngine
from boxwright.errors import BoxwrightError, UsageError
from boxwright.frontends.package.problem import nearest
from boxwright.model.deployment import Desired
from boxwright.store.store import Store


def released_basis(engine: DeployEngine, stack: str) -> Basis:
    """What the last release was made from.

    Raises BoxwrightError `deploy.unfinished` where a deployment was interrupted, `deploy.no-basis` after an older
    boxwright, `deploy.no-release`.
    """
    if engine.read_document(stack, DEPLOYING) is not None:
        hint = "'boxwright deploy' or 'boxwright rollback' ends it"
        raise BoxwrightError("deploy.unfinished", f"a change of the stack {stack} did not come to its end", hint=hint)
    release = last_release(engine, stack)
    found = basis_from_text(release.basis)
    if found is None:
        message = f"release {release.number} of {stack} was made by another boxwright, and does not say what from"
        raise BoxwrightError("deploy.no-basis", message, hint="deploy it again, and scale then")
    return found


def check_replicas(basis: Basis, replicas: Mapping[str, int]) -> None:
    """Whether its containers can have these numbers. Raises UsageError `usage.scale`."""
    containers = {it.name: it for it in basis.stack.containers}
    for name, number in replicas.items():
        if name not in containers:
            raise UsageError("usage.scale", f"there is no container {name!r}", hint=nearest(name, containers))
        if containers[name].database is not None and number > 1:
            raise UsageError("usage.scale", f"the database {name} can't have {number} replicas")


def lacks_balancer(basis: Basis, replicas: Mapping[str, int]) -> bool:
    """Whether it must have a load balancer then, and had none."""
    numbers = {**basis.facts.replicas, **replicas}
    return BALANCER not in basis.facts.images and wants_balancer(basis.stack, numbers)


def scaled_stack(
    engine: DeployEngine, basis: Basis, replicas: Mapping[str, int], store: Store
) -> tuple[Desired, tuple[ImageFacts, ...], str]:
    """All that is to be there, the images that it did not have before, and its basis. A load balancer's is built."""
    new: tuple[ImageFacts, ...] = ()
    if lacks_balancer(basis, replicas):
        new = (balancer_facts(store),)
        images = {**basis.facts.images, BALANCER: new[0]}
        basis = basis._replace(facts=basis.facts._replace(images=images))
    desired, text = scaled(basis, replicas, engine.hosts())
    return desired, new, text
