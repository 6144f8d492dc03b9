"""Images and their names in the index."""

from __future__ import annotations

import json
import time
from typing import Any

from boxwright.errors import BoxwrightError
from boxwright.model.digest import Digest, digest_of
from boxwright.model.image import Database, Healthcheck, Image, ImageConfig, Port, Snapshot
from boxwright.store.store import Store


def config_fields(config: ImageConfig) -> dict[str, Any]:
    """A configuration as JSON has it: an object, with ports and the healthcheck as objects in it."""
    values = config._asdict()
    for name in ("exposed", "published"):
        values[name] = [port._asdict() for port in values[name]]
    values["databases"] = [database._asdict() for database in config.databases]
    if not config.databases:
        del values["databases"]  # images without one keep the identity that they had
    values["healthcheck"] = config.healthcheck._asdict() if config.healthcheck else None
    return values


def config_text(config: ImageConfig) -> str:
    """A configuration as canonical JSON: sorted keys, no white space."""
    return json.dumps(config_fields(config), sort_keys=True, separators=(",", ":"))


def config_from_text(text: str) -> ImageConfig:
    """A configuration from its JSON."""
    raw: dict[str, Any] = json.loads(text)
    values: dict[str, Any] = {}
    for name in ImageConfig._fields:
        value = raw.get(name)
        if name in ("exposed", "published"):
            value = tuple(Port(**port) for port in value or ())
        elif name == "databases":
            value = tuple(Database(**database) for database in value or ())
        elif name == "healthcheck":
            value = Healthcheck(**{**value, "test": tuple(value["test"])}) if value else None
        elif name in ("env", "labels"):
            value = tuple((key, text) for key, text in value or ())
        elif isinstance(value, list):
            value = tuple(value)
        values[name] = value
    return ImageConfig(**values)


def settled(config: ImageConfig) -> ImageConfig:
    """The same configuration with what has no order in one: an image that went through a registry is the same image."""
    published = {(port.container, port.protocol) for port in config.published}
    exposed = {port for port in config.exposed if (port.container, port.protocol) not in published}
    return config._replace(
        labels=tuple(sorted(dict(config.labels).items())),
        exposed=tuple(sorted(exposed)),
        volumes=tuple(sorted(set(config.volumes))),
    )


class Images:
    """The images of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def keep(self, config: ImageConfig, snapshot: Snapshot, tags: tuple[str, ...]) -> Image:
        """Record an image and give it names. Its identity is of the configuration and the full manifest."""
        config = settled(config)
        text = config_text(config)
        identity = digest_of(f"boxwright-image-1\0{text}\0{snapshot.manifest.full}".encode())
        known = self._store.index.one("SELECT size, key FROM images WHERE identity=?", (identity,))
        size = known[0] if known else self._store.trees.root(snapshot.manifest).size
        named = {row[0] for row in self._store.index.all("SELECT name FROM tags WHERE identity=?", (identity,))}
        if known is None or known[1] != snapshot.key or not named.issuperset(tags):
            with self._store.index.writing() as db:
                db.execute(
                    "INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?)",
                    (identity, text, snapshot.key, snapshot.epoch, size, int(time.time())),
                )
                db.executemany("INSERT OR REPLACE INTO tags VALUES (?, ?)", [(tag, identity) for tag in tags])
        return Image(identity, config, snapshot, snapshot.epoch, size)

    def find(self, name: str) -> Image | None:
        """The image of this name, identity, or beginning of an identity (at least six digits)."""
        row = self._store.index.one("SELECT identity FROM tags WHERE name=?", (name,))
        if row is None:
            wanted = name if name.startswith("sha256:") else f"sha256:{name}"
            if len(wanted) < len("sha256:") + 6:
                return None
            rows = self._store.index.all(
                "SELECT identity FROM images WHERE identity>=? AND identity<?", (wanted, wanted + "g")
            )
            if len(rows) > 1:
                raise BoxwrightError("image.ambiguous", f"{name} is the beginning of {len(rows)} images' identities")
            row = rows[0] if rows else None
        return self.load(Digest(row[0])) if row else None

    def get(self, name: str) -> Image:
        """Like `find`; raises BoxwrightError `image.unknown`."""
        image = self.find(name)
        if image is None:
            raise BoxwrightError(
                "image.unknown", f"there is no image {name!r} here", hint="'boxwright images' lists those there are"
            )
        return image

    def load(self, identity: Digest) -> Image | None:
        """The image with this identity."""
        row = self._store.index.one("SELECT config, key, created, size FROM images WHERE identity=?", (identity,))
        if row is None:
            return None
        snapshot = self._store.snapshot(Digest(row[1]))
        if snapshot is None:
            return None
        return Image(identity, config_from_text(row[0]), snapshot, row[2], row[3])

    def tag(self, image: Image, name: str) -> None:
        """Give an image another name; an image that had it loses it."""
        with self._store.index.writing() as db:
            db.execute("INSERT OR REPLACE INTO tags VALUES (?, ?)", (name, image.identity))

    def remove(self, name: str) -> Image:
        """Remove a name, and the image with its last name; an identity removes all of its names."""
        image = self.get(name)
        with self._store.index.writing() as db:
            if db.execute("DELETE FROM tags WHERE name=?", (name,)).rowcount == 0:
                db.execute("DELETE FROM tags WHERE identity=?", (image.identity,))
            if db.execute("SELECT 1 FROM tags WHERE identity=?", (image.identity,)).fetchone() is None:
                db.execute("DELETE FROM images WHERE identity=?", (image.identity,))
        return image

    def listing(self) -> list[tuple[str, Image]]:
        """Every image with its names (an image without has one empty), by name."""
        rows = self._store.index.all(
            "SELECT COALESCE(tags.name, ''), images.identity FROM images LEFT JOIN tags"
            " ON tags.identity = images.identity ORDER BY tags.name, images.identity"
        )
        loaded = [(name, self.load(Digest(identity))) for name, identity in rows]
        return [(name, image) for name, image in loaded if image is not None]
