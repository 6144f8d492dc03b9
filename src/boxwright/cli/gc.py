"""Remove what was not used for longest until the store is within its limit. Images with a name stay."""

from __future__ import annotations

import argparse
import os

from boxwright.cli.console import human_size, note, say


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `gc`."""
    add = parser.add_argument
    add("--max-size", default="", metavar="SIZE", help="10GB, 512MiB or 10%% (default: BOXWRIGHT_STORE_LIMIT, or 20GB)")
    add("--all", action="store_true", help="remove all that no named image and no container needs")
    add("--engine", default="", metavar="NAME", help="the states of builds that podman, docker, lxc or lxd holds, all")
    add("--endpoint", default="", metavar="ADDRESS", help="with --engine: where it is")
    add("--dry-run", action="store_true", help="say what would go")
    add("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> int:
    """Collect."""
    if options.engine:
        from boxwright.app.engines import forget_states
        from boxwright.app.opening import open_store

        with open_store(os.environ) as store:
            forgotten = forget_states(options.engine, options.endpoint, store, os.environ, dry_run=options.dry_run)
        say(f"{forgotten} states {'would be removed' if options.dry_run else 'removed'} from {options.engine}")
        return 0
    from boxwright.app.upkeep import CollectRequest, collect

    report = collect(CollectRequest(options.max_size, options.all, options.dry_run), os.environ)
    if options.json:
        import dataclasses
        import json

        say(json.dumps(dataclasses.asdict(report)))
        return 0
    verb = "would be removed" if options.dry_run else "removed"
    caches = f", {report.caches} caches" if report.caches else ""
    say(
        f"{report.snapshots} states and {report.layers} layers{caches} {verb}: "
        f"{human_size(report.before)} before, {human_size(report.after)} after"
    )
    if report.in_use:
        note("note: other boxwright processes are at work, so what was used in the last two hours stays")
    if report.after > report.limit and not options.all:
        note(
            f"note: what is left is more than the limit of {human_size(report.limit)}, but is needed; "
            "'boxwright rm' removes images"
        )
    return 0
