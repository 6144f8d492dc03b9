"""Images out of the store: written to files, or loaded into engines."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from boxwright.app.privileges import ensure_privileges
from boxwright.errors import UsageError
from boxwright.model.image import HistoryEntry, Image
from boxwright.ports import WriteRequest
from boxwright.store.store import Store

if TYPE_CHECKING:
    from boxwright.images.layer import Layer

_OUTPUT = re.compile(r"([a-z][a-z-]*)((?:,[a-z]+=[^,:]*)*):(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Delivered:
    """Where an image went: a path, or a name in an engine. `kind` is of the output, or the engine.

    `digest` and `config` are as `WrittenArtifact` has them, empty for an engine.
    """

    kind: str
    place: str
    digest: str = ""
    config: str = ""


def parse_output(text: str, name: str) -> WriteRequest:
    """``TYPE:DEST``, with options of the type after commas: ``oci-archive,compression=gzip:image.tar``."""
    from boxwright.images.writers import check_kind

    found = _OUTPUT.fullmatch(text)
    if found is None:
        raise UsageError("usage.output", f"{text!r}: TYPE:DEST is expected", hint="such as oci-archive:image.tar")
    check_kind(found[1])
    options = dict(item.split("=", 1) for item in found[2].split(",") if item)
    return WriteRequest(found[1], Path(found[3]), name, options)


def check_outputs(outputs: Sequence[str], loads: Sequence[str], *, layers: str = "") -> None:
    """Raise for what `deliver` could not do, before anything is built."""
    kinds = [parse_output(text, "").kind for text in outputs]
    if layers:
        from boxwright.app.layering import parse_layering
        from boxwright.images.writers import LAYERED

        parse_layering(layers)

        flat = next((kind for kind in (*kinds, *loads) if kind not in (*LAYERED, "docker", "podman")), None)
        if flat is not None:
            hint = f"--layers is for {', '.join(LAYERED)}, --load docker and --load podman"
            raise UsageError("output.no-layers", f"{flat} has no layers", hint=hint)
    if loads:
        from boxwright.images.load import check_engine

        for engine in loads:
            check_engine(engine)


def layers_for(image: Image, store: Store, how: str, history: Sequence[HistoryEntry] = ()) -> tuple[Layer, ...]:
    """The layers that an image gets where more than one is asked for; none where it is to be flat.

    With `history` one for each instruction.
    """
    from boxwright.app.layering import AUTO, parse_layering, shared_out

    ensure_privileges()
    if history:
        from boxwright.images.layer import layers_of

        return layers_of(history, store)
    layering = parse_layering(how)
    return shared_out(image, store, layering) if layering.kind == AUTO else ()


def deliver(
    image: Image,
    store: Store,
    name: str,
    outputs: Sequence[str],
    loads: Sequence[str],
    *,
    layers: Sequence[Layer] = (),
) -> tuple[Delivered, ...]:
    """Write `image` to each of `outputs` and load it into each of `loads`; in formats with names it is `name`.

    Without `layers` it is flat.
    """
    from boxwright.images.writers import write_request

    requests = [_with_manifest(parse_output(text, name), image, store) for text in outputs]
    ensure_privileges()
    written = [write_request(image, store, request, layers) for request in requests]
    delivered = [Delivered(it.kind, str(it.path), it.digest, it.config or "") for it in written]
    if any(it.dump for it in image.config.databases):
        from boxwright.app.databases import write_dumps

        for it in written:
            delivered.extend(Delivered("database", path, digest) for path, digest in write_dumps(image, store, it))
    if loads:
        from boxwright.images.load import load

        delivered.extend(Delivered(engine, load(image, store, engine, name=name, layers=layers)) for engine in loads)
    return tuple(delivered)


def _with_manifest(request: WriteRequest, image: Image, store: Store) -> WriteRequest:
    """An ACI's manifest is what the image's definition says, where it says one."""
    if request.kind != "aci":
        return request
    from boxwright.app.acimanifest import kept_manifest

    return request._replace(manifest=kept_manifest(store, image))


def metadata(image: Image, names: Sequence[str], delivered: Sequence[Delivered]) -> str:
    """What was built, as JSON with BuildKit's names (docker buildx build, ``--metadata-file``) and some of our own.

    The digests are those of the first OCI layout or archive that was written. Without one, ``containerimage.digest``
    is the image's identity, and there is no configuration yet that could have a digest.
    """
    with_config = [item for item in delivered if item.config]
    manifest = next((item.digest for item in with_config if item.digest != item.config), image.identity)
    fields: dict[str, object] = {
        "containerimage.digest": manifest,
        "image.name": ",".join(names),
        "boxwright.identity": image.identity,
        "boxwright.size": image.size,
        "boxwright.created": image.created,
        "boxwright.outputs": [{"type": it.kind, "place": it.place, "digest": it.digest} for it in delivered],
    }
    if with_config:
        fields["containerimage.config.digest"] = with_config[0].config
    return json.dumps(fields, indent=2, sort_keys=True) + "\n"
