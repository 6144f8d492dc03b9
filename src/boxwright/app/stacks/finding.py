"""Whether an engine has a stack, and which other one has it."""

from __future__ import annotations

from contextlib import suppress

from boxwright.app.stacks.contents import DOCUMENT
from boxwright.app.stacks.engines import open_deploy_engine
from boxwright.deploy.applying import DEPLOYING
from boxwright.deploy.engine import DeployEngine
from boxwright.deploy.history import EVENTS, RELEASES
from boxwright.errors import BoxwrightError
from boxwright.frontends.package.problem import nearest
from boxwright.model.stack import ENGINES, NAME, NATIVE
from boxwright.store.store import Store

_TRACES = (RELEASES, DEPLOYING, EVENTS, DOCUMENT)


def is_there(engine: DeployEngine, stack: str) -> bool:
    """Whether there is anything of a stack: a memory of it, or what it left behind. A lock is neither."""
    if stack in engine.stacks() and any(engine.read_document(stack, name) is not None for name in _TRACES):
        return True
    observed = engine.observe(stack)
    return bool(observed.instances or observed.networks or observed.volumes)


def unknown_stack(engine: DeployEngine, stack: str, store: Store) -> BoxwrightError:
    """The error `deploy.unknown-stack`: it says who else has the stack, or what sounds like it."""
    elsewhere = [name for name in ENGINES if name != engine.name and stack in _stacks_of(name, store)]
    hint = f"it is on {' and '.join(elsewhere)}: say --engine {elsewhere[0]}" if elsewhere else ""
    known = {it for it in engine.stacks() if NAME.fullmatch(it) and it != stack}
    message = f"there is no stack {stack} on {engine.name}"
    return BoxwrightError("deploy.unknown-stack", message, hint=hint or nearest(stack, known))


def _stacks_of(name: str, store: Store) -> set[str]:
    """What an engine of this machine has; nothing where it isn't there or does not answer."""
    with suppress(BoxwrightError, OSError):
        if name == NATIVE:  # only a process with one thread may open it
            from boxwright.app.stacks.native import stack_names

            return set(stack_names(store))
        with open_deploy_engine(name, store) as engine:
            return set(engine.stacks())
    return set()
