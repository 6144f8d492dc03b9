"""The build contexts of one build, read when first asked for."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping

from boxwright.errors import BoxwrightError
from boxwright.model.digest import digest_of, hex_of
from boxwright.ports import ContextTree
from boxwright.sources.ignore import IgnoreRules
from boxwright.sources.local import LocalContext
from boxwright.store.store import Store


class LocalContexts:
    """Named directories; ``""`` is the main one. `definition` may have a .dockerignore of its own."""

    def __init__(self, store: Store, directories: Mapping[str, str], definition: str, epoch: int) -> None:
        self._store = store
        self._directories = directories
        self._definition = definition
        self._epoch = epoch
        self._trees: dict[str, ContextTree] = {}
        self._lock = threading.Lock()

    def tree(self, name: str) -> ContextTree:
        """The context `name`, read once."""
        with self._lock:
            if name not in self._trees:
                self._trees[name] = self._read(name)
            return self._trees[name]

    def _read(self, name: str) -> ContextTree:
        if name not in self._directories:
            raise BoxwrightError("context.unknown", f"there is no build context {name!r}")
        directory = os.path.realpath(self._directories[name])
        text = self._ignore_text(directory)
        memory = f"{self._store.home.contexts}/{_memory_name(directory, text)}"
        rules = IgnoreRules.parse(text) if text.strip() else None
        trees = self._store.trees
        tree = LocalContext(directory, memory, rules, put=trees.put, has=trees.has, epoch=self._epoch).read()
        trees.flush()
        return tree

    def _ignore_text(self, directory: str) -> str:
        for path in (f"{self._definition}.dockerignore", os.path.join(directory, ".dockerignore")):
            if os.path.isfile(path):
                with open(path, encoding="utf-8", errors="surrogateescape") as text:
                    return text.read()
        return ""


def _memory_name(directory: str, ignore: str) -> str:
    return hex_of(digest_of(f"{directory}\0{ignore}".encode("utf-8", "surrogateescape")))[:32]
