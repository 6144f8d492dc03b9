"""The databases that images come with: their first content, kept in the store beside the image."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from boxwright.errors import BoxwrightError
from boxwright.model.digest import Digest, digest_from_hex, hex_of
from boxwright.model.graph import GraphDatabase
from boxwright.model.image import Database, ImageConfig, Snapshot
from boxwright.store.images import Images
from boxwright.store.store import Store

if TYPE_CHECKING:
    from boxwright.images.artifact import WrittenArtifact
    from boxwright.model.image import Image

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


def dump_path(store: Store, database: Database) -> str:
    """Where the dump lies. Raises BoxwrightError `dbase.dump-missing`."""
    path = f"{store.home.dumps}/{database.dump.removeprefix('sha256:')}"
    if not os.path.isfile(path):
        message = f"the content of the database {database.name} is not in the store any more"
        raise BoxwrightError("dbase.dump-missing", message, hint="build the image again")
    return path


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
            from boxwright.images.referrers import Attached, attach

            fields = ("name", "kind", "version")
            notes = tuple((f"{LABEL}.{field}", getattr(database, field)) for field in fields)
            attached = Attached(Path(source), name, database.dump, database.size, notes)
            yield str(written.path), attach(written.path, written.digest, attached)
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
