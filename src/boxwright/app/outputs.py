"""Images out of the store: written to files, or loaded into engines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from boxwright.app.privileges import ensure_privileges
from boxwright.errors import UsageError
from boxwright.model.image import Image
from boxwright.ports import WriteRequest
from boxwright.store.store import Store

_OUTPUT = re.compile(r"([a-z][a-z-]*)((?:,[a-z]+=[^,:]*)*):(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Delivered:
    """Where an image went: a path, or a name in an engine. `kind` is of the output, or the engine."""

    kind: str
    place: str


def parse_output(text: str, name: str) -> WriteRequest:
    """``TYPE:DEST``, with options of the type after commas: ``oci-archive,compression=gzip:image.tar``."""
    from boxwright.images.writers import check_kind

    found = _OUTPUT.fullmatch(text)
    if found is None:
        raise UsageError("usage.output", f"{text!r}: TYPE:DEST is expected", hint="such as oci-archive:image.tar")
    check_kind(found[1])
    options = dict(item.split("=", 1) for item in found[2].split(",") if item)
    return WriteRequest(found[1], Path(found[3]), name, options)


def check_outputs(outputs: Sequence[str], loads: Sequence[str]) -> None:
    """Raise for what `deliver` could not do, before anything is built."""
    for text in outputs:
        parse_output(text, "")
    if loads:
        from boxwright.images.load import check_engine

        for engine in loads:
            check_engine(engine)


def deliver(
    image: Image, store: Store, name: str, outputs: Sequence[str], loads: Sequence[str]
) -> tuple[Delivered, ...]:
    """Write `image` to each of `outputs` and load it into each of `loads`; in formats with names it is `name`."""
    from boxwright.images.writers import write_request

    requests = [parse_output(text, name) for text in outputs]
    ensure_privileges()
    delivered = [Delivered(request.kind, str(write_request(image, store, request).path)) for request in requests]
    if loads:
        from boxwright.images.load import load

        delivered.extend(Delivered(engine, load(image, store, engine, name=name)) for engine in loads)
    return tuple(delivered)
