"""Releases and events of a stack, as documents in the engine."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from boxwright.deploy.balancing import certificate_path
from boxwright.deploy.engine import DeployEngine
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import Desired, desired_from_text, desired_text

RELEASES, EVENTS, IMAGES = "releases", "events", "images"
MOST_RELEASES = 10
MOST_EVENTS = 1000


class Release(NamedTuple):
    """What was deployed once: its number from 1, when (seconds since 1970), why, and all that was to be there.

    `basis` is the text of what that was made from; empty where an older boxwright made it.
    """

    number: int
    time: int
    reason: str
    desired: Desired
    basis: str = ""


class StackEvent(NamedTuple):
    """Something that happened to a stack."""

    time: float
    what: str
    name: str
    text: str = ""


def read_releases(engine: DeployEngine, stack: str) -> tuple[Release, ...]:
    """Those that are remembered, the oldest first; the last one is what is to be there now."""
    raw = engine.read_document(stack, RELEASES)
    if raw is None:
        return ()
    try:
        items: list[dict[str, Any]] = json.loads(raw)
        return tuple(
            Release(
                it["number"],
                it["time"],
                it["reason"],
                _with_digests(desired_from_text(json.dumps(it["desired"]))),
                str(it.get("basis", "")),
            )
            for it in items
        )
    except (ValueError, KeyError, TypeError) as error:
        message = f"what is remembered of the releases of {stack} can't be read: {error}"
        raise BoxwrightError("deploy.history", message, hint="deploy it again with a newer boxwright") from error


def _with_digests(desired: Desired) -> Desired:
    """What an older boxwright wrote has paths of certificates; their digests are in the balancers' specifications."""
    if all(it.certificate.startswith("sha256:") for it in desired.backends if it.certificate):
        return desired
    files = {file.path: file.content for it in desired.instances for file in it.files}
    backends = (it._replace(certificate=files.get(certificate_path(it), "")) for it in desired.backends)
    return desired._replace(backends=tuple(backends))


def with_release(
    before: tuple[Release, ...], desired: Desired, reason: str, now: int, basis: str = ""
) -> tuple[Release, ...]:
    """One more; the oldest is forgotten."""
    release = Release(before[-1].number + 1 if before else 1, now, reason, desired, basis)
    return (*before, release)[-MOST_RELEASES:]


def releases_text(releases: Iterable[Release]) -> bytes:
    """As they are kept."""
    items = [
        {
            "number": it.number,
            "time": it.time,
            "reason": it.reason,
            "desired": json.loads(desired_text(it.desired)),
            "basis": it.basis,
        }
        for it in releases
    ]
    return json.dumps(items, separators=(",", ":")).encode()


def read_images(engine: DeployEngine, stack: str) -> set[str]:
    """All images that the engine was given for a stack, also for what failed, and has not dropped since."""
    raw = engine.read_document(stack, IMAGES)
    return set(json.loads(raw)) if raw else set()


def images_of_others(engine: DeployEngine, stack: str) -> set[str]:
    """Those that other stacks have, or may go back to: an engine has one of each."""
    others = [it for it in engine.stacks() if it != stack]
    found = {it for other in others for it in read_images(engine, other)}
    return found | {it for other in others for it in images_of(read_releases(engine, other))}


def images_of(releases: Iterable[Release]) -> set[str]:
    """The images of all their instances."""
    return {spec.image for it in releases for spec in it.desired.instances}


def images_text(identities: Iterable[str]) -> bytes:
    """As they are kept."""
    return json.dumps(sorted(identities)).encode()


def read_events(engine: DeployEngine, stack: str) -> tuple[StackEvent, ...]:
    """The last ones, the oldest first. A line that can't be read is left out."""
    found: list[StackEvent] = []
    for line in (engine.read_document(stack, EVENTS) or b"").splitlines():
        try:
            found.append(StackEvent(*json.loads(line)))
        except (ValueError, TypeError):
            continue
    return tuple(found)


def add_events(engine: DeployEngine, stack: str, events: list[StackEvent]) -> None:
    """Remember them."""
    if events:
        engine.write_document(stack, EVENTS, with_events(engine, stack, events))


def with_events(engine: DeployEngine, stack: str, events: list[StackEvent]) -> bytes:
    """Those that are remembered, and these, as they are kept."""
    kept = [*read_events(engine, stack), *events][-MOST_EVENTS:]
    return "".join(f"{json.dumps(list(it))}\n" for it in kept).encode()
