"""Pin what a package takes from outside (URLs, git, the distribution's packages, bases) in boxwright.lock beside it."""

from __future__ import annotations

import argparse
import os

from boxwright.cli.console import say


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `lock`."""
    add = parser.add_argument
    add("directory", nargs="?", default=".", metavar="DIR", help="where the definition is (default: .)")
    add("-f", "--file", help="the definition")
    add("--platform", default="", help="only the machine's own, such as linux/amd64")
    add("--mirror", help="the package mirror for base systems")


def run(options: argparse.Namespace) -> int:
    """Write the lock."""
    from boxwright.app.definitions import find_definition
    from boxwright.app.opening import open_store
    from boxwright.app.packagelock import write_lock
    from boxwright.app.packages import PackageRequest

    file = find_definition(options.directory, options.file)
    with open_store(os.environ) as store:
        request = PackageRequest(file, platform=options.platform, mirror=options.mirror)
        path, data = write_lock(request, store, os.environ)
    counts = ", ".join(f"{len(part)} {name}" for name, part in data.items() if isinstance(part, dict) and part)
    say(f"{path}: {counts}")
    return 0
