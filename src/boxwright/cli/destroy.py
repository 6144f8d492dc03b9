"""Remove a stack: its instances and networks, with --volumes also its volumes. It asks first."""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from boxwright.cli.console import note, say
from boxwright.cli.stackoptions import PATIENCE, add_stack, meant, opened
from boxwright.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `destroy`."""
    add_stack(parser)
    parser.add_argument("--volumes", action="store_true", help="remove its volumes too, with all that is in them")
    parser.add_argument("-y", "--yes", action="store_true", help="don't ask")


def run(options: argparse.Namespace) -> int:
    """Ask, then remove."""
    from boxwright.app.opening import open_store
    from boxwright.deploy.history import images_of, images_of_others, read_images, read_releases

    found = meant(options.stack, options)
    with open_store(os.environ) as store, opened(found, store) as engine, engine.lock(found.name, PATIENCE):
        observed = engine.observe(found.name)
        if not options.yes:
            _ask(found.name, len(observed.instances), observed.volumes if options.volumes else ())
        with ThreadPoolExecutor(8) as pool:
            list(
                pool.map(lambda it: engine.stop(it.name, it.spec.stop_seconds if it.spec else 10.0), observed.instances)
            )
            list(pool.map(lambda it: engine.delete(it.name), observed.instances))
        for network in observed.networks:
            engine.delete_network(found.name, network.name)
        if options.volumes:
            for volume in observed.volumes:
                engine.delete_volume(found.name, volume)
        kept = () if options.volumes else observed.volumes
        images = {it.spec.image for it in observed.instances if it.spec is not None} | read_images(engine, found.name)
        images |= images_of(read_releases(engine, found.name))
        engine.drop_images(found.name, sorted(images - images_of_others(engine, found.name)))
        engine.forget(found.name, keep_secrets=bool(kept))
    if kept:
        note(f"kept: volume {', '.join(kept)}")
    say(f"{found.name}: destroyed")
    return 0


def _ask(stack: str, instances: int, volumes: tuple[str, ...]) -> None:
    what = f"{instances} instance{'s' if instances != 1 else ''}"
    if volumes:
        what += f" and the volume{'s' if len(volumes) > 1 else ''} {', '.join(volumes)} with all that is in them"
    if not sys.stdin.isatty():
        raise UsageError("usage.confirm", f"this would remove {what} of {stack}", hint="say --yes")
    sys.stderr.write(f"remove {what} of {stack}? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("usage.confirm", "nothing was removed")
