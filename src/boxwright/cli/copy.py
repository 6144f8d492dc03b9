"""Copy an image between registries, layouts, archives and the store, with what belongs to it.

SRC and DST are docker://NAME (or a registry's NAME), oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:TAG],
local:NAME (the store).
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from boxwright.app.opening import open_store
from boxwright.cli import registryoptions
from boxwright.cli.console import human_size, note, say
from boxwright.errors import UsageError

if TYPE_CHECKING:
    from boxwright.app.copying import Where


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `copy`."""
    parser.add_argument("source", metavar="SRC")
    parser.add_argument("target", metavar="DST")
    parser.add_argument("--platform", default="", metavar="OS/ARCH[/VARIANT]", help="one image of an index, not all")
    registryoptions.configure(parser)


def run(options: argparse.Namespace) -> int:
    """Copy."""
    from boxwright.app.copying import copy, parse_where
    from boxwright.app.registries import opened_registries

    source, target = parse_where(options.source), parse_where(options.target)
    if "local" in (source.kind, target.kind):
        return _with_store(source, target, options)
    with opened_registries(registryoptions.environment(options), registryoptions.reach(options)) as registries:
        copied = copy(source, target, registries, options.platform)
    note(f"{copied.blobs} blobs, {human_size(copied.moved)} moved")
    say(copied.digest)
    return 0


def _with_store(source: Where, target: Where, options: argparse.Namespace) -> int:
    """To and from the store an image is written and read, not copied: `push`, `pull`, `export`, and the reverse."""
    if source.kind == "local" and target.kind == "docker":
        from boxwright.cli import push

        return _other(push, [source.place, target.place], options)
    if source.kind == "local" and target.kind != "local":
        from boxwright.app.lookup import find_image
        from boxwright.app.outputs import deliver

        with open_store(os.environ) as store:
            image = find_image(store, source.place)
            name = target.name or source.place
            for delivered in deliver(image, store, name, [f"{target.kind}:{target.place}"], []):
                say(delivered.digest)
        return 0
    if source.kind == "docker":
        from boxwright.cli import pull

        return _other(pull, ["--tag", target.place, source.place], options)
    if source.kind == "local":
        raise UsageError("usage.copy", "both are the store", hint="boxwright tag IMAGE NAME")
    from boxwright.app.importing import import_into_store
    from boxwright.app.names import image_name
    from boxwright.app.platforms import machine_platform

    with open_store(os.environ) as store:
        place = f"{source.place}:{source.name}" if source.name else source.place
        platform = options.platform or machine_platform()
        say(import_into_store(source.kind, place, platform, image_name(target.place), store).identity)
    return 0


def _other(module: object, words: list[str], options: argparse.Namespace) -> int:
    """Run another subcommand with the options for registries that this one was given."""
    parser = argparse.ArgumentParser()
    module.configure(parser)  # type: ignore[attr-defined]
    given = parser.parse_args(words)
    known = {name: value for name, value in vars(options).items() if name in vars(given) and name != "tag"}
    status: int = module.run(argparse.Namespace(**{**vars(given), **known}))  # type: ignore[attr-defined]
    return status
