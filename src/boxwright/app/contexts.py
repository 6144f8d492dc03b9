"""The build contexts of one build, read when first asked for."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping

from boxwright.app.definitions import is_inside
from boxwright.errors import BoxwrightError
from boxwright.model.digest import digest_of, hex_of
from boxwright.ports import ContextTree
from boxwright.sources.ignore import IgnoreRules
from boxwright.sources.local import LocalContext
from boxwright.store.store import Store


class LocalContexts:
    """Named directories; ``""`` is the main one. `definition` may have a .dockerignore of its own, which counts there.

    Those in `fetched` were made for this build: nothing of them is remembered, and no link leads out of them.
    """

    def __init__(
        self,
        store: Store,
        directories: Mapping[str, str],
        definition: str,
        epoch: int,
        fetched: Collection[str] = (),
    ) -> None:
        self._store = store
        self._directories = directories
        self._definition = definition
        self._epoch = epoch
        self._fetched = fetched
        self._trees: dict[str, ContextTree] = {}
        self._lock = threading.Lock()

    def tree(self, name: str) -> ContextTree:
        """The context `name`, read once."""
        with self._lock:
            if name not in self._trees:
                self._trees[name] = self._read(name)
            return self._trees[name]

    def matcher(self, patterns: tuple[str, ...]) -> IgnoreRules:
        """What tells which paths the patterns of ``--exclude`` and ``--parents`` match."""
        return IgnoreRules.parse("\n".join(patterns), "the patterns of COPY")

    def _read(self, name: str) -> ContextTree:
        if name not in self._directories:
            raise BoxwrightError("context.unknown", f"there is no build context {name!r}")
        directory = os.path.realpath(self._directories[name])
        file, text = self._ignore_file(name, directory)
        memory = f"{self._store.home.contexts}/{_memory_name(directory, text)}"
        if name in self._fetched:
            memory = f"{self._store.scratch()}/memory"
        rules = IgnoreRules.parse(text, file) if text.strip() else None
        trees = self._store.trees
        tree = LocalContext(directory, memory, rules, put=trees.put, has=trees.has, epoch=self._epoch).read()
        trees.flush()
        return tree

    def _ignore_file(self, name: str, directory: str) -> tuple[str, str]:
        """Where the rules stand, and their text."""
        own = [f"{self._definition}.dockerignore"] if name == "" and self._definition != "-" else []
        for path in (*own, f"{directory}/.dockerignore"):
            if os.path.isfile(path) and (name not in self._fetched or is_inside(directory, path)):
                with open(path, encoding="utf-8", errors="surrogateescape") as text:
                    return path, text.read()
        return "", ""


def _memory_name(directory: str, ignore: str) -> str:
    return hex_of(digest_of(f"{directory}\0{ignore}".encode("utf-8", "surrogateescape")))[:32]
