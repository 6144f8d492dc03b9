"""Serve a directory of bundles over HTTP or HTTPS, to all clients or to those that have a token or an address.

Any web server that sends files will do as well.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from boxwright.cli.console import note, say, warn
from boxwright.errors import UsageError

if TYPE_CHECKING:
    from types import FrameType

    from boxwright.app.serving import Access

TOKEN = "BOXWRIGHT_BUNDLE_TOKEN"  # noqa: S105 - the variable's name
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `bundle serve`."""
    add = parser.add_argument
    add("directory", metavar="DIR", nargs="?", default="dist", help="where bundles lie (dist)")
    add("--bind", default="127.0.0.1", metavar="ADDRESS", help="only this machine by default; 0.0.0.0 and :: are all")
    add("--port", type=int, default=8043, help="0 takes a free one (8043)")
    add("--tls-cert", default="", metavar="FILE", help="the certificate with its chain (PEM): HTTPS")
    add("--tls-key", default="", metavar="FILE", help="its key, where it is not in the same file")
    add("--token-file", default="", metavar="FILE", help=f"clients must send this token (or that of {TOKEN})")
    add("--allow", action="append", default=[], metavar="CIDR", help="only clients of these networks or addresses")
    add("-q", "--quiet", action="store_true", help="do not say what is asked for")


def run(options: argparse.Namespace) -> int:
    """Serve until interrupted or terminated."""
    from boxwright.app.serving import serving

    if not os.path.isdir(options.directory):
        raise UsageError("serve.directory", f"{options.directory} is no directory", hint="boxwright bundle -o DIR")
    access = _access(options)
    if options.bind not in LOOPBACK and not access.token and not access.networks:
        warn("whoever reaches this machine can read these bundles (--token-file, --allow)")
    with serving(options.directory, options.bind, options.port, access) as server:

        def end(_number: int, _frame: FrameType | None) -> None:
            # It waits for the loop that this thread is in.
            threading.Thread(target=server.shutdown).start()

        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
        host, port = server.server_address[:2]
        shown = f"[{host!s}]" if ":" in str(host) else str(host)
        say(f"{'https' if access.certificate else 'http'}://{shown}:{port}/latest")
        sys.stdout.flush()
        server.serve_forever(poll_interval=0.2)
    note("stopped")
    return 0


def _access(options: argparse.Namespace) -> Access:
    from boxwright.app.serving import Access, check_token, parse_networks, read_token

    if options.tls_key and not options.tls_cert:
        raise UsageError("usage.tls", "--tls-key needs --tls-cert")
    token = read_token(options.token_file) if options.token_file else os.environ.get(TOKEN, "")
    return Access(
        check_token(token, TOKEN) if token else "",
        parse_networks(options.allow),
        options.tls_cert,
        options.tls_key,
        None if options.quiet else _log,
    )


def _log(client: str, line: str, status: str) -> None:
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    words = "".join(letter if letter.isprintable() else "?" for letter in line)
    note(f"{when} {client} {status} {words}")
