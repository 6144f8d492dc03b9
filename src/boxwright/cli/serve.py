"""Serve a directory repository over HTTP on this machine, for trying out: Python's own web server, by one line.

For others use any web server that sends files: the whole repository is static.
"""

from __future__ import annotations

import argparse
import os
import sys

from boxwright.cli.console import note, say
from boxwright.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `serve`."""
    parser.add_argument("directory", metavar="DIR")
    parser.add_argument("--bind", default="127.0.0.1", metavar="ADDRESS", help="only this machine by default")
    parser.add_argument("--port", type=int, default=8042, help="0 takes a free one")


def run(options: argparse.Namespace) -> int:
    """Serve until interrupted."""
    from boxwright.app.serving import serving

    if not os.path.isdir(options.directory):
        raise UsageError("serve.directory", f"{options.directory} is no directory", hint="'boxwright repo init DIR'")
    with serving(options.directory, options.bind, options.port) as server:
        host, port = server.server_address[:2]
        say(f"download-type: http\ndownload-path: {host!s}:{port}")
        sys.stdout.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            note("stopped")
    return 0
