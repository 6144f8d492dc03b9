"""Remove a stack: its instances and networks, with --volumes also its volumes. It asks first."""

from __future__ import annotations

import argparse
import os

from boxwright.cli.console import note, say
from boxwright.cli.stackoptions import PATIENCE, add_stack, agree, meant, opened


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `destroy`."""
    add_stack(parser)
    parser.add_argument("--volumes", action="store_true", help="remove its volumes too, with all that is in them")
    parser.add_argument("-y", "--yes", action="store_true", help="don't ask")


def run(options: argparse.Namespace) -> int:
    """Ask, then remove: nobody waits for an answer. A volume that came after the question stays."""
    from boxwright.app.opening import open_store
    from boxwright.app.stacks.destroying import destroy_stack

    found = meant(options.stack, options)
    with open_store(os.environ) as store, opened(found, store) as engine:
        asked: tuple[str, ...] | None = None if options.volumes else ()
        if not options.yes:
            observed = engine.observe(found.name)
            asked = observed.volumes if options.volumes else ()
            what = _text(len(observed.instances), asked)
            agree(f"remove {what} of {found.name}", yes=False, left="nothing was removed")
        with engine.lock(found.name, PATIENCE):
            kept = destroy_stack(engine, found.name, asked)
    if kept:
        note(f"kept: volume {', '.join(kept)}")
    say(f"{found.name}: destroyed")
    return 0


def _text(instances: int, volumes: tuple[str, ...]) -> str:
    what = f"{instances} instance{'s' if instances != 1 else ''}"
    if volumes:
        what += f" and the volume{'s' if len(volumes) > 1 else ''} {', '.join(volumes)} with all that is in them"
    return what
