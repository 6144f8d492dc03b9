"""Opens the store of the user who runs the program."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

from boxwright.store.home import default_root, open_home
from boxwright.store.store import Store
from boxwright.store.usage import using


@contextmanager
def open_store(environment: Mapping[str, str], *, shared: bool = True) -> Iterator[Store]:
    """The store that `environment` names, closed afterwards.

    With `shared`, nothing that is needed now is collected meanwhile; a collection itself opens it without.
    """
    home = open_home(default_root(dict(environment), os.geteuid()))
    with using(home) if shared else nullcontext():
        store = Store(home)
        try:
            yield store
        finally:
            store.close()
