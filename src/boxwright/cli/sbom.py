"""Print an image's bill of materials, as SPDX or CycloneDX."""

from __future__ import annotations

import argparse
import os

from boxwright.cli.console import say


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `sbom`."""
    add = parser.add_argument
    add("image", metavar="IMAGE", help="an image's name, or the beginning of its digest")
    add("--format", default="spdx", choices=("spdx", "cyclonedx"), help="SPDX 2.3 or CycloneDX 1.6, as JSON")
    add("-o", "--output", metavar="FILE", help="write it to a file")


def run(options: argparse.Namespace) -> int:
    """Print it."""
    from boxwright.app.lookup import find_image, name_as_given
    from boxwright.app.opening import open_store
    from boxwright.app.sbom import bill_of

    with open_store(os.environ) as store:
        image = find_image(store, options.image)
        name = name_as_given(store, image, options.image) or str(image.identity)
        text = bill_of(image, store, options.format, name)
    if options.output:
        with open(options.output, "w", encoding="utf-8") as file:
            file.write(text)
    else:
        say(text.rstrip("\n"))
    return 0
