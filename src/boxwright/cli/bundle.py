"""Make a ZIP of an application's revision, which base containers fetch when they start."""

from __future__ import annotations

import argparse
import json
import os

from boxwright.cli.console import human_size, note, say
from boxwright.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `bundle`."""
    add = parser.add_argument
    add("location", metavar="PATH|URL", nargs="?", default=".", help="a directory, or a repository's address")
    add("-o", "--output", default="dist", metavar="DIR", help="where bundles lie (dist)")
    add("--rev", default="", metavar="REV", help="a branch, a tag or a commit (HEAD)")
    add("--working-tree", action="store_true", help="what lies in the directory, committed or not")
    add("--name", default="", metavar="PROJECT", help="the project's name, not bundle.yaml's or the repository's")
    add("--sign", default="", metavar="KEY", help="sign the manifest with this Ed25519 key (PEM)")
    add("--store", action="store_true", help="do not compress")
    add("--keep", type=int, default=0, metavar="N", help="remove all but the newest N bundles")
    add("--json", action="store_true", help="print the manifest")


def run(options: argparse.Namespace) -> int:
    """Make the bundle and print its path and digest."""
    from boxwright.app.bundleindex import described, prune
    from boxwright.app.bundling import BundleRequest, make_bundle, project_name, refuse_inside

    if options.keep < 0:
        raise UsageError("usage.keep", "--keep takes a number above 0")
    if options.working_tree and options.rev:
        raise UsageError("usage.rev", "--rev and --working-tree are different things: take one")
    if options.name and project_name(options.name) != options.name:
        raise UsageError("usage.name", f"--name {options.name}: lower case letters, digits, . _ -")
    refuse_inside(options.output, options.location)
    request = BundleRequest(
        options.location,
        options.output.rstrip("/") or "/",
        options.rev,
        options.working_tree,
        options.name,
        options.sign,
        options.store,
    )
    bundle = make_bundle(request, os.environ, lambda text: note(f"warning: {text}"))
    if options.keep:
        for name in prune(request.output, options.keep):
            note(f"removed {name}")
    if options.json:
        say(json.dumps(described(bundle), sort_keys=True))
        return 0
    note(f"{bundle.project} {bundle.revision[:12]}: {bundle.files} files, {human_size(bundle.size)}")
    say(f"{bundle.path} sha256:{bundle.sha256}")
    return 0
