"""Make a ZIP of an application's revision, which base containers fetch when they start.

'boxwright bundle serve DIR' serves what lies in a directory.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from typing import TYPE_CHECKING, Any

from boxwright.cli.console import human_size, note, say, warn
from boxwright.errors import UsageError

if TYPE_CHECKING:
    from boxwright.app.bundling import Bundle


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `bundle`."""
    add = parser.add_argument
    add("location", metavar="PATH|URL", nargs="?", default=".", help="a directory, or a repository's address")
    add("-o", "--output", default="", metavar="DIR", help="where bundles lie (dist, or nowhere here with --to)")
    add("--to", action="append", default=[], metavar="PLACE", help="upload: s3://BUCKET/PREFIX, ssh://HOST/PATH or DIR")
    add("--rev", default="", metavar="REV", help="a branch, a tag or a commit (HEAD)")
    add("--working-tree", action="store_true", help="what lies in the directory, committed or not")
    add("--name", default="", metavar="PROJECT", help="the project's name, not bundle.yaml's or the repository's")
    add("--sign", default="", metavar="KEY", help="sign the manifest with this Ed25519 key (PEM)")
    add("--store", action="store_true", help="do not compress")
    add("--keep", type=int, default=0, metavar="N", help="remove all but the newest N bundles, in each place")
    add(
        "--presign",
        default="",
        metavar="TIME",
        help="print a container's variables with addresses good for 30m, 24h, 7d",
    )
    add("--json", action="store_true", help="print the manifest")


def run(options: argparse.Namespace) -> int:
    """Make the bundle, bring it where it is wanted, and print its places and its digest."""
    seconds = _check(options)
    if options.output or not options.to:
        return _run_in(options, (options.output or "dist").rstrip("/") or "/", seconds)
    with tempfile.TemporaryDirectory(prefix="boxwright-bundle-") as scratch:
        return _run_in(options, scratch, seconds)


def _check(options: argparse.Namespace) -> int:
    """Raise UsageError for what can't be meant; returns for how many seconds addresses are to be good."""
    from boxwright.app.bundleplaces import LONGEST, check_address
    from boxwright.app.bundling import project_name, refuse_inside
    from boxwright.cli.arguments import duration

    if options.keep < 0:
        raise UsageError("usage.keep", "--keep takes a number above 0")
    if options.working_tree and options.rev:
        raise UsageError("usage.rev", "--rev and --working-tree are different things: take one")
    if options.name and project_name(options.name) != options.name:
        raise UsageError("usage.name", f"--name {options.name}: lower case letters, digits, . _ -")
    for address in options.to:
        check_address(address, os.environ)
    buckets = [address for address in options.to if address.startswith("s3://")]
    if options.presign and len(buckets) != 1:
        raise UsageError("usage.presign", "--presign is for one bucket: --to s3://BUCKET/PREFIX")
    seconds = duration(options.presign, "--presign") if options.presign else 0
    if options.presign and not 0 < seconds <= LONGEST:
        raise UsageError("usage.presign", "presigned addresses are good for at most 7 days", hint="--presign 24h")
    for place in (options.output or "dist", *(it for it in options.to if "://" not in it)):
        refuse_inside(place, options.location)
    return seconds


def _run_in(options: argparse.Namespace, directory: str, seconds: int) -> int:
    from boxwright.app.bundleindex import described, prune
    from boxwright.app.bundling import BundleRequest, make_bundle

    request = BundleRequest(
        options.location,
        directory,
        options.rev,
        options.working_tree,
        options.name,
        options.sign,
        options.store,
        tuple(it for it in options.to if "://" not in it),
    )
    bundle = make_bundle(request, os.environ, warn)
    note(f"{bundle.project} {bundle.revision[:12]}: {bundle.files} files, {human_size(bundle.size)}")
    places = []
    if options.output or not options.to:
        places.append(bundle.path)
        for name in prune(directory, options.keep) if options.keep else ():
            note(f"removed {name}")
    name = os.path.basename(bundle.path)
    for address in options.to:
        _upload(bundle, address, options.keep)
        places.append(f"{address.rstrip('/')}/{name}")
    shown = _presigned(bundle, options, name, seconds) if seconds else {}
    if options.json:
        say(json.dumps({**described(bundle), **({"environment": shown} if shown else {})}, sort_keys=True))
        return 0
    lines = [f"{key}={value}" for key, value in shown.items()]
    for line in lines or [f"{place} sha256:{bundle.sha256}" for place in places]:
        say(line)
    return 0


def _upload(bundle: Bundle, address: str, keep: int) -> None:
    from boxwright.app.bundleplaces import opened
    from boxwright.app.bundleupload import prune, upload

    with opened(address, os.environ) as place:
        upload(bundle, place)
        for name in prune(place, keep) if keep else ():
            note(f"removed {address.rstrip('/')}/{name}")


def _presigned(bundle: Bundle, options: argparse.Namespace, name: str, seconds: int) -> dict[str, Any]:
    from boxwright.app.bundleplaces import presigned
    from boxwright.model.bundle import container_variables

    (address,) = (it for it in options.to if it.startswith("s3://"))
    signed = bool(options.sign)
    wanted = [name, *([f"{name}.json", f"{name}.json.sig"] if signed else [])]
    urls = presigned(address, wanted, seconds, os.environ)
    manifest, signature = urls[1:] if signed else ("", "")
    return container_variables(urls[0], bundle.sha256, manifest_url=manifest, signature_url=signature)
