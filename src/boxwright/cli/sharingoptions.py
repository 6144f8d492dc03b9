"""What commands about repositories share: which are meant, and the store."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from boxwright.app.opening import open_store
from boxwright.app.repositories import Opened, opened
from boxwright.app.repositoryconfiguration import binaries_for, chosen
from boxwright.errors import UsageError
from boxwright.store.packages import Packages
from boxwright.store.store import Store


@contextmanager
def repositories(names: Sequence[str]) -> Iterator[tuple[Store, list[Opened]]]:
    """The store and the repositories that are configured here; those of `names` where there are any."""
    configured = binaries_for(os.getcwd(), os.environ)
    if not configured:
        hint = "name one in .boxwright-config.yaml"
        raise UsageError("repository.none", "no repository is configured", hint=hint)
    wanted = chosen(configured, names)
    with open_store(os.environ) as store, opened(wanted, Packages(store), os.environ) as found:
        yield store, found


def add_from(parser: argparse.ArgumentParser, option: str, text: str) -> None:
    """``--from NAME`` or ``--to NAME``."""
    parser.add_argument(option, action="append", default=[], dest="repositories", metavar="REPOSITORY", help=text)
