"""From a step's fields to its key (docs/keys.md)."""

from __future__ import annotations

from boxwright.model.canonical import KEY_VERSION, Value, encode
from boxwright.model.digest import Digest, digest_of
from boxwright.model.step import Run, ServiceData, Step


def key_of(kind: str, fields: tuple[tuple[str, Value], ...]) -> Digest:
    """The key of a step of this kind with these fields."""
    return digest_of(encode((KEY_VERSION, kind, fields)))


def data_fields(run: Digest, service: str) -> tuple[tuple[str, Value], ...]:
    """What the key of a service's data is made of: `run` is the key of the step beside which it ran."""
    return (("run", run), ("service", service))


def companions(step: Step, key: Digest) -> tuple[Digest, ...]:
    """What a step records beside its tree, by key. Where one is missing, the step's own record is none."""
    if not isinstance(step, Run):
        return ()
    return tuple(key_of(ServiceData.__name__, data_fields(key, it.name)) for it in step.services if it.keep)
