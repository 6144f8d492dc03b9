"""Write an image in some format: oci, oci-archive, docker-archive, lxc, lxd, rootfs, tar, squashfs, aci."""

from __future__ import annotations

import argparse
import os

from boxwright.app.opening import open_store
from boxwright.cli.console import say


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `export`."""
    parser.add_argument("image", metavar="IMAGE", help="a name or the beginning of a digest")
    parser.add_argument("outputs", nargs="*", metavar="TYPE:DEST", help="such as oci-archive:image.tar; repeatable")
    parser.add_argument(
        "--layers", default="", metavar="HOW", help="auto or auto:N: at most N layers, chosen by package"
    )
    parser.add_argument("--load", action="append", default=[], metavar="ENGINE", help="docker, podman or lxd")


def run(options: argparse.Namespace) -> int:
    """Write it."""
    from boxwright.app.lookup import find_image, name_as_given
    from boxwright.app.outputs import check_outputs, deliver, layers_for
    from boxwright.errors import UsageError

    if not options.outputs and not options.load:
        raise UsageError("usage.output", "no output is named", hint="such as oci-archive:image.tar, or --load docker")
    if options.layers == "instructions":
        hint = "an image of the store has no instructions any more: boxwright build --layers -o TYPE:DEST"
        raise UsageError("usage.layers", "--layers instructions: only while it is built", hint=hint)
    check_outputs(options.outputs, options.load, layers=options.layers)
    with open_store(os.environ) as store:
        image = find_image(store, options.image)
        name = name_as_given(store, image, options.image)
        layers = layers_for(image, store, options.layers)
        for delivered in deliver(image, store, name, options.outputs, options.load, layers=layers):
            say(f"{delivered.kind}: {delivered.place}")
    return 0
