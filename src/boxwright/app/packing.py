"""Layers as blobs: packed once, then known by what they are made of."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from pathlib import Path

from boxwright.app.memory import return_large_blocks
from boxwright.images.layer import Layer, Packing
from boxwright.images.layerkey import layer_key
from boxwright.images.streams import Written
from boxwright.model.digest import Digest
from boxwright.store.store import Store

PACKED_AT_ONCE = 2
"""Each compresses in threads of its own; more would only need more memory."""


class Packer:
    """Packs the layers of one store's images. Safe for threads."""

    def __init__(self, store: Store, packing: Packing) -> None:
        return_large_blocks()
        self._store = store
        self._packing = packing
        self._scratch = store.scratch()
        self._turn = threading.Semaphore(PACKED_AT_ONCE)

    def key(self, layer: Layer) -> Digest:
        """What the layer is made of."""
        return layer_key(layer.members() if layer.members is not None else (), self._packing)

    def known(self, key: Digest) -> Written | None:
        """What a layer of this key came to when it was packed."""
        row = self._store.index.one("SELECT value FROM artifacts WHERE key=?", (_name(key),))
        return Written(*json.loads(row[0])) if row else None

    def pack(self, key: Digest, layer: Layer) -> tuple[Written, Path]:
        """Pack a layer into a new file, which the caller removes, and remember what it came to."""
        descriptor, name = tempfile.mkstemp(prefix="layer-", dir=self._scratch)
        try:
            with self._turn, open(descriptor, "wb") as file:
                written = layer.write(file, self._packing)
        except BaseException:
            os.unlink(name)
            raise
        value = json.dumps([written.plain_digest, written.plain_size, written.digest, written.size])
        with self._store.index.writing() as db:
            db.execute("INSERT OR REPLACE INTO artifacts VALUES (?, ?, ?)", (_name(key), value, int(time.time())))
        return written, Path(name)

    def touch(self, keys: list[Digest]) -> None:
        """Note that these were used."""
        with self._store.index.writing() as db:
            now = int(time.time())
            db.executemany("UPDATE artifacts SET used=? WHERE key=?", [(now, _name(key)) for key in keys])


def _name(key: Digest) -> str:
    return f"layer {key}"
