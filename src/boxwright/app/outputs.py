"""Images out of the store: written to files, or loaded into engines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from boxwright.app.privileges import ensure_privileges
from boxwright.errors import UsageError
from boxwright.model.image import HistoryEntry, Image
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


def check_outputs(outputs: Sequence[str], loads: Sequence[str], *, layers: bool = False) -> None:
    """Raise for what `deliver` could not do, before anything is built."""
    kinds = [parse_output(text, "").kind for text in outputs]
    if layers:
        from boxwright.images.writers import LAYERED

        flat = next((kind for kind in (*kinds, *loads) if kind not in (*LAYERED, "docker", "podman")), None)
        if flat is not None:
            hint = f"--layers is for {', '.join(LAYERED)}, --load docker and --load podman"
            raise UsageError("output.no-layers", f"{flat} has no layers", hint=hint)
    if loads:
        from boxwright.images.load import check_engine

        for engine in loads:
            check_engine(engine)


def deliver(
    image: Image,
    store: Store,
    name: str,
    outputs: Sequence[str],
    loads: Sequence[str],
    *,
    history: Sequence[HistoryEntry] = (),
) -> tuple[Delivered, ...]:
    """Write `image` to each of `outputs` and load it into each of `loads`; in formats with names it is `name`.

    With `history` it gets a layer for each instruction.
    """
    from boxwright.images.layer import layers_of
    from boxwright.images.writers import write_request

    requests = [parse_output(text, name) for text in outputs]
    ensure_privileges()
    layers = layers_of(history, store)
    delivered = [
        Delivered(request.kind, str(write_request(image, store, request, layers).path)) for request in requests
    ]
    if loads:
        from boxwright.images.load import load

        delivered.extend(Delivered(engine, load(image, store, engine, name=name, layers=layers)) for engine in loads)
    return tuple(delivered)
