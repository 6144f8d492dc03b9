"""The databases that images come with: their first content, kept in the store beside the image."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from boxwright.errors import BoxwrightError, FetchError
from boxwright.model.digest import Digest, digest_from_hex, hex_of
from boxwright.model.graph import GraphDatabase
from boxwright.model.image import Database, ImageConfig, Snapshot
from boxwright.store.images import Images
from boxwright.store.store import Store

if TYPE_CHECKING:
    from boxwright.images.artifact import WrittenArtifact
    from boxwright.images.referrers import Attached
    from boxwright.model.image import Image
    from boxwright.repositories.registry.client import Client

_FIELDS: Mapping[str, type] = {
    "name": str,
    "kind": str,
    "version": str,
    "dump": str,
    "size": int,
    "embedded": bool,
}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
LABEL = "dev.boxwright.databases"


def with_content(
    config: ImageConfig,
    databases: Sequence[GraphDatabase],
    snapshot: Callable[[int], Snapshot | None],
    store: Store,
) -> ImageConfig:
    """A configuration that names each database's dump, which is kept; also as a label, for who reads images alone."""
    _name_servers(databases, snapshot, store)
    kept = {it.database.name: _keep(it, snapshot(it.node), store) for it in databases}
    complete = tuple(kept.get(it.name, it) for it in config.databases)
    labels = {**dict(config.labels), LABEL: described(complete)}
    return config._replace(databases=complete, labels=tuple(labels.items()))


def _name_servers(databases: Iterable[GraphDatabase], snapshot: Callable[[int], Snapshot | None], store: Store) -> None:
    """Give the servers' images names, so that `run` finds them and no collection takes them."""
    for it in databases:
        server = snapshot(it.server)
        if server is not None:
            Images(store).keep(it.config, server, (it.image,))


def described(databases: Iterable[Database]) -> str:
    """Databases as the label has them: a JSON array of objects."""
    fields = ("name", "kind", "version", "dump", "size", "embedded")
    objects = [{name: value for name in fields if (value := getattr(it, name))} for it in databases]
    return json.dumps(objects, sort_keys=True, separators=(",", ":"))


def parsed_databases(label: str) -> tuple[Database, ...]:
    """The databases of a label's text. Raises FetchError `oci.bad-image`."""
    try:
        items = json.loads(label)
        found = tuple(Database(**{key: value for key, value in item.items() if key in _FIELDS}) for item in items)
        if all(type(getattr(it, name)) is kind for it in found for name, kind in _FIELDS.items()):
            return found
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _bad_label() from error
    raise _bad_label()


def _bad_label() -> FetchError:
    return FetchError("oci.bad-image", f"the image is not well formed: {LABEL} is not what it should be")


def fetched_databases(config: ImageConfig, client: Client, manifest: Digest, store: Store) -> ImageConfig:
    """An image's configuration with its databases, whose dumps are fetched from what refers to its manifest."""
    label = dict(config.labels).get(LABEL)
    if not label:
        return config
    databases = parsed_databases(label)
    for it in databases:
        if it.dump and not os.path.isfile(_dump_place(store, it.dump)):
            _fetch_dump(it, client, manifest, store)
    return config._replace(databases=databases)


def _fetch_dump(database: Database, client: Client, manifest: Digest, store: Store) -> None:
    from boxwright.images.referrers import DATABASE_TYPE

    for descriptor in client.referrers(manifest):
        if descriptor.get("artifactType") != DATABASE_TYPE:
            continue
        found = client.manifest(str(descriptor["digest"]))
        layers = found.value.get("layers") if found else None
        if isinstance(layers, list) and any(
            isinstance(it, dict) and it.get("digest") == database.dump for it in layers
        ):
            place = _dump_place(store, database.dump)
            os.makedirs(store.home.dumps, mode=0o700, exist_ok=True)
            client.get_blob(Digest(database.dump), database.size, f"{place}.part")
            os.rename(f"{place}.part", place)
            return
    message = f"the content of the database {database.name} is not beside the image in {client}"
    raise FetchError("dbase.dump-missing", message, hint="push the image again with boxwright, which sends it too")


def _dump_place(store: Store, digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise _bad_label()
    return f"{store.home.dumps}/{digest.removeprefix('sha256:')}"


def dump_path(store: Store, database: Database) -> str:
    """Where the dump lies. Raises BoxwrightError `dbase.dump-missing`."""
    path = f"{store.home.dumps}/{database.dump.removeprefix('sha256:')}"
    if not os.path.isfile(path):
        message = f"the content of the database {database.name} is not in the store any more"
        raise BoxwrightError("dbase.dump-missing", message, hint="build the image again")
    return path


def attached_dump(database: Database, source: str) -> Attached:
    """A dump as an artifact beside an image."""
    from boxwright.images.referrers import Attached

    notes = tuple((f"{LABEL}.{field}", getattr(database, field)) for field in ("name", "kind", "version"))
    return Attached(Path(source), f"{database.name.lower()}.sql", database.dump, database.size, notes)


def write_dumps(image: Image, store: Store, written: WrittenArtifact) -> Iterator[tuple[str, Digest]]:
    """Put the dumps of an image beside it where it was written: in a layout as referrers, else as ``DEST.NAME.sql``.

    Yields each one's place and digest.
    """
    for database in image.config.databases:
        if not database.dump:
            continue
        name = f"{database.name.lower()}.sql"
        source = dump_path(store, database)
        if written.kind == "oci":
            from boxwright.images.referrers import attach

            yield str(written.path), attach(written.path, written.digest, attached_dump(database, source))
        else:
            place = f"{str(written.path).rstrip('/')}.{name}"
            shutil.copyfile(source, f"{place}.new")
            os.rename(f"{place}.new", place)
            yield place, Digest(database.dump)


def _keep(it: GraphDatabase, snapshot: Snapshot | None, store: Store) -> Database:
    found = store.locate(snapshot.manifest, it.dump).entry if snapshot is not None else None
    source = store.physical(snapshot, it.dump) if snapshot is not None else None
    if found is None or source is None:
        message = f"the data of {it.database.name} was removed while it was needed"
        raise BoxwrightError("store.gone", message, hint="build again")
    digest = digest_from_hex(found.data)
    place = f"{store.home.dumps}/{hex_of(digest)}"
    if not os.path.isfile(place):
        os.makedirs(store.home.dumps, mode=0o700, exist_ok=True)
        temporary = f"{place}.{os.getpid()}"
        shutil.copyfile(source, temporary)
        os.rename(temporary, place)
    return it.database._replace(dump=digest, size=found.size)
