"""Say for each step whether it would run and which of its inputs changed; or why something is in an image."""

from __future__ import annotations

import argparse
import os

from boxwright.cli import conditions
from boxwright.cli.console import say


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `why`: those of `build` that count in keys."""
    add = parser.add_argument
    add("directory", nargs="?", default=".", metavar="CONTEXT|IMAGE", help="the build context (default: .)")
    add("thing", nargs="?", help="in an image: a library (libssl.so.3), a file, or a package")
    add("-f", "--file", help="the definition")
    add("--target", default="", help="the stage to build")
    add("--build-arg", action="append", default=[], metavar="NAME[=VALUE]")
    add("--build-context", action="append", default=[], metavar="NAME=CONTEXT")
    add("--platform", default="", help="only the machine's own, such as linux/amd64")
    add("--network", default="default", choices=("none", "default", "host"))
    conditions.configure(parser)
    add("--all", action="store_true", help="also the steps that are cached")
    add("--json", action="store_true", help="print a JSON array")


def run(options: argparse.Namespace) -> int:
    """Compare, or look into an image."""
    if options.thing is not None:
        return _in_image(options)
    from boxwright.app.build import prepare
    from boxwright.app.opening import open_store
    from boxwright.app.reasons import reasons_of
    from boxwright.app.request import BuildRequest
    from boxwright.cli.arguments import build_args, named
    from boxwright.cli.steptext import clean

    given = conditions.given(options)
    request = BuildRequest(
        directory=options.directory,
        file=options.file,
        build_args=build_args(options.build_arg, os.environ),
        target=options.target,
        platform=options.platform,
        network=options.network,
        contexts=named(options.build_context),
        mounts=given.mounts,
        conditions=given.conditions,
    )
    with open_store(os.environ) as store:
        reasons = reasons_of(prepare(request, store, os.environ), request, store)
    if options.json:
        import dataclasses
        import json

        say(json.dumps([dataclasses.asdict(reason) for reason in reasons], indent=2))
        return 0
    for reason in reasons:
        if reason.runs or options.all:
            say(f"{'RUN   ' if reason.runs else 'CACHED'} [{clean(reason.stage)}] {clean(reason.title)}")
            for text in reason.reasons:
                say(f"         {clean(text)}")
    cached = sum(not reason.runs for reason in reasons)
    say(f"{len(reasons) - cached} of {len(reasons)} steps would run")
    return 0


def _in_image(options: argparse.Namespace) -> int:
    from boxwright.app.lookup import find_image
    from boxwright.app.opening import open_store
    from boxwright.app.whyfile import why_in_image
    from boxwright.cli.steptext import clean

    with open_store(os.environ) as store:
        found = why_in_image(find_image(store, options.directory), store, options.thing)
    if options.json:
        import json

        say(json.dumps([presence._asdict() for presence in found], indent=2))
        return 0
    for presence in found:
        say(clean(presence.what))
        for reason in presence.reasons:
            say(f"    {clean(reason)}")
    return 0
