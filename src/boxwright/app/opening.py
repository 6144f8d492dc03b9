"""Opens the store of the user who runs the program."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from boxwright.store.home import default_root, open_home
from boxwright.store.store import Store


@contextmanager
def open_store(environment: Mapping[str, str]) -> Iterator[Store]:
    """The store that `environment` names, closed afterwards."""
    store = Store(open_home(default_root(dict(environment), os.geteuid())))
    try:
        yield store
    finally:
        store.close()
