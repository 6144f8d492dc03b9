"""The registry half of `pull`."""

from __future__ import annotations

import argparse
import os
from functools import partial

from boxwright.app.opening import open_store
from boxwright.cli import registryoptions
from boxwright.cli.console import human_size, note, say


def configure(parser: argparse.ArgumentParser) -> None:
    """The options for registries."""
    add = parser.add_argument
    add("--platform", default="", metavar="OS/ARCH[/VARIANT]", help="of an index: the image for this platform")
    add("-t", "--tag", default="", metavar="NAME", help="name the image so, instead of by where it is from")
    add("--key", default="", metavar="FILE", help="take only what this public key signed (as cosign does)")
    add("-q", "--quiet", action="store_true", help="print the image's digest alone")
    registryoptions.configure(parser)


def run(options: argparse.Namespace) -> int:
    """Pull."""
    from boxwright.app.names import image_name
    from boxwright.app.platforms import machine_platform
    from boxwright.app.registries import opened_registries
    from boxwright.app.registrypull import pull_image
    from boxwright.sources.reference import parse_registry_name

    names = [(text, parse_registry_name(text)) for text in options.names]
    reach = registryoptions.reach(options)
    check = None
    if options.key:
        from boxwright.app.attachments import verify
        from boxwright.app.signing import read_verifier

        check = partial(verify, verifier=read_verifier(options.key))
    with open_store(os.environ) as store, opened_registries(registryoptions.environment(options), reach) as registries:
        for text, name in names:
            tags = (image_name(options.tag),) if options.tag else () if name.digest else (image_name(text),)
            platform = options.platform or machine_platform()
            pulled = pull_image(name, platform, registries, store, tags, check)
            if options.quiet:
                say(pulled.image.identity)
                continue
            note("it is here already" if pulled.known else f"{human_size(pulled.received)} received")
            say(f"{', '.join(tags) or '(no name)'}  {pulled.image.identity}  {human_size(pulled.image.size)}")
    return 0
