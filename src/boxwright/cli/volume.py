"""List and remove named volumes, which stay when the containers that mount them are removed."""

from __future__ import annotations

import argparse
import json
import os

from boxwright.cli.console import say


def configure(parser: argparse.ArgumentParser) -> None:
    """The subcommands of `volume`."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    ls = commands.add_parser("ls", help="list volumes", description="List volumes.")
    ls.add_argument("-q", "--quiet", action="store_true", help="names alone")
    ls.add_argument("--json", action="store_true")
    text = "Remove volumes that no container mounts, with all that is in them."
    rm = commands.add_parser("rm", help="remove volumes", description=text)
    rm.add_argument("names", nargs="+", metavar="NAME")


def run(options: argparse.Namespace) -> int:
    """Do what is asked."""
    from boxwright.app.volumes import remove

    if options.action == "ls":
        return _list(quiet=options.quiet, as_json=options.json)
    for name in options.names:
        remove(os.environ, name)
        say(name)
    return 0


def _list(*, quiet: bool, as_json: bool) -> int:
    from boxwright.app.volumes import volumes

    found = volumes(os.environ)
    if as_json:
        say(json.dumps([it._asdict() for it in found]))
    elif quiet:
        for it in found:
            say(it.name)
    else:
        width = max([len("NAME"), *(len(it.name) for it in found)])
        say(f"{'NAME':<{width}}  CONTAINERS")
        for it in found:
            say(f"{it.name:<{width}}  {', '.join(it.users) or '-'}")
    return 0
