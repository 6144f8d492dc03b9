"""Uploads at the end of a build, each with a line of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from functools import partial

from boxwright.app.publishing import of_build, publish
from boxwright.app.repositories import Opened
from boxwright.app.sharing import Sharing
from boxwright.cli.packageprogress import status_line
from boxwright.cli.steptext import clean
from boxwright.model.graph import Graph
from boxwright.solver.keys import Keys
from boxwright.store.packages import Packages
from boxwright.store.store import Store


def upload_packages(
    shared: Sharing, graph: Graph, keys: Keys, store: Store, origins: Collection[int], *, shown: bool
) -> None:
    """Put the packages of a build, with their sources, into the repositories that get them."""
    what = of_build(graph, keys, Packages(store), origins)
    for to in shared.pushed:
        text = f"    Uploading packages to '{clean(to.configured.name)}'"
        kept = with_line(text, partial(publish, to, what), shown=shown)
        for name in kept if shown else ():
            _say(f"    {clean(name)}: another build of it is there, and stays")


def with_line(text: str, work: Callable[[], list[str]], *, shown: bool) -> list[str]:
    """Do the work and say how it went."""
    try:
        done = work()
    except BaseException:
        if shown:
            _say(status_line(text, "FAILED"))
        raise
    if shown:
        _say(status_line(text, "OK"))
    return done


def key_note(to: Opened) -> str:
    """What others must configure to take what this user publishes."""
    from boxwright.app.repositories import signing_key

    return f"keys: [{signing_key(to.configured).public.text}]"


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
