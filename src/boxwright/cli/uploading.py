"""Uploads at the end of a build, each with a line of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from functools import partial

from boxwright.app.publishing import ToPublish, of_build, publish, publish_image, publish_trees
from boxwright.app.repositories import Opened
from boxwright.app.sharing import Sharing
from boxwright.cli.packageprogress import status_line
from boxwright.cli.steptext import clean
from boxwright.model.graph import Graph
from boxwright.model.image import Image
from boxwright.solver.keys import Keys
from boxwright.store.packages import Packages
from boxwright.store.store import Store


def upload_packages(
    shared: Sharing, graph: Graph, keys: Keys, store: Store, origins: Collection[int], *, shown: bool
) -> None:
    """Put the packages of a build, with their sources and toolchains, into the repositories that get them."""
    what = of_build(graph, keys, Packages(store), origins)
    for to in shared.pushed:
        text = f"    Uploading packages to '{clean(to.configured.name)}'"
        kept = with_line(text, partial(_packages, to, what, graph, keys, store), shown=shown)
        for name in kept if shown else ():
            _say(f"    {clean(name)}: another build of it is there, and stays")


def _packages(to: Opened, what: ToPublish, graph: Graph, keys: Keys, store: Store) -> list[str]:
    publish_trees(to, graph, keys, store)
    return publish(to, what)


def upload_container(
    shared: Sharing, image: Image, names: Sequence[str], store: Store, spec: bytes, *, shown: bool
) -> None:
    """Put an image, and what it was made of, into the repositories that get them."""
    what = "container spec and image(s)" if spec else "image"
    for to in shared.pushed:
        text = f"Uploading {what} to '{clean(to.configured.name)}'"
        with_line(text, partial(_image, to, image, names, store, spec), shown=shown)


def _image(to: Opened, image: Image, names: Sequence[str], store: Store, spec: bytes) -> list[str]:
    publish_image(to, image, names, store, spec)
    return []


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


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
