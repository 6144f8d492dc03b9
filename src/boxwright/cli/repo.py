"""Keep a repository: its keys, what is in it, whether it is whole.

WHERE is a configured repository's name, or a directory.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from boxwright.app.opening import open_store
from boxwright.app.repositories import Opened, opened, signing_key
from boxwright.app.repositoryconfiguration import Binary, Way, binaries_for, own_key_path
from boxwright.cli.console import human_size, note, say
from boxwright.errors import UsageError
from boxwright.store.packages import Packages

DAY = 86400


def configure(parser: argparse.ArgumentParser) -> None:
    """The subcommands of `repo`."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def command(name: str, text: str, where: str = "WHERE") -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        if where:
            added.add_argument("where", metavar=where, help="a configured repository, or a directory")
        return added

    key = command("key", "make a key to sign with, or show the one that is there", where="")
    key.add_argument("file", nargs="?", default="", metavar="FILE", help="the private key; your own by default")
    command("init", "make an empty repository")
    verify = command("verify", "check every record, signature and byte")
    verify.add_argument("--quick", action="store_true", help="leave out the bytes of content")
    gc = command("gc", "remove what nobody needs")
    gc.add_argument("--older-than", type=float, metavar="DAYS", help="records too that were published so long ago")
    gc.add_argument("--grace", type=float, default=24.0, metavar="HOURS", help="keep content put within (24)")
    gc.add_argument("--dry-run", action="store_true", help="only say what would go")
    command("stats", "count what is there").add_argument("--json", action="store_true")
    command("sign", "sign with your key, too, what a key that counts has signed")
    revoke = command("revoke", "say that a key no longer counts, signed with yours")
    revoke.add_argument("key", metavar="KEYID", help="sixteen hexadecimal digits")
    revoke.add_argument("--reason", default="")


def run(options: argparse.Namespace) -> int:
    """Do what is asked."""
    if options.action == "key":
        return _key(options.file)
    with _repository(options.where) as it:
        status: int = {
            "init": _init,
            "verify": _verify,
            "gc": _gc,
            "stats": _stats,
            "sign": _sign,
            "revoke": _revoke,
        }[options.action](it, options)
    return status


@contextmanager
def _repository(where: str) -> Iterator[Opened]:
    """The repository of a name, or of a directory with the keys of this user."""
    configured = {it.name: it for it in binaries_for(os.getcwd(), os.environ)}
    binary = configured.get(where)
    if binary is None:
        if "/" not in where and not os.path.isdir(where):
            hint = f"configured are {', '.join(configured)}" if configured else "a directory is written with a slash"
            raise UsageError("repository.unknown", f"there is no repository {where!r}", hint=hint)
        way = Way("directory", os.path.abspath(where))
        binary = Binary(where, way, way, (), frozenset(), own_key_path(os.environ), "", "", False, 30.0)
    with open_store(os.environ) as store, opened([binary], Packages(store), os.environ) as (found,):
        yield found


def _key(file: str) -> int:
    from boxwright.repositories.binary.keys import make_private_key, read_private_key

    path = file or own_key_path(os.environ)
    there = os.path.exists(path)
    key = read_private_key(path) if there else make_private_key(path)
    note(f"{'the key' if there else 'a new key'}: {path}, id {key.public.id}")
    say(key.public.text)
    return 0


def _init(it: Opened, _: argparse.Namespace) -> int:
    it.catalog.initialise(it.place())
    public = signing_key(it.configured).public
    say(f"{it.catalog.source.where} is a repository; what you publish is signed by the key {public.id}")
    say(f"others take it with: keys: [{public.text}]")
    return 0


def _verify(it: Opened, options: argparse.Namespace) -> int:
    from boxwright.repositories.binary.upkeep import verify

    found = verify(it.catalog, it.place(), deep=not options.quick)
    for finding in found.findings:
        say(finding)
    say(f"{found.objects} objects, {human_size(found.size)}: {len(found.findings) or 'no'} findings")
    return 1 if found.findings else 0


def _gc(it: Opened, options: argparse.Namespace) -> int:
    from boxwright.repositories.binary.upkeep import collect

    now = int(time.time())
    oldest = 0 if options.older_than is None else now - int(options.older_than * DAY)
    grace = int(options.grace * 3600)
    gone = collect(it.place(), now=now, oldest=oldest, grace=grace, dry_run=options.dry_run)
    if not options.dry_run:
        it.catalog.prune(it.place(), now - grace)
    verb = "would go" if options.dry_run else "removed"
    say(f"{gone.records} records and {gone.objects} objects of content ({human_size(gone.size)}) {verb}")
    return 0


def _stats(it: Opened, options: argparse.Namespace) -> int:
    from boxwright.repositories.binary.upkeep import count

    found = count(it.place())
    if options.json:
        say(json.dumps(found._asdict()))
        return 0
    for kind, number in sorted(found.records.items()):
        say(f"{kind:<10}{number}")
    say(f"content   {found.objects} objects, {human_size(found.size)}")
    say(f"unneeded  {human_size(found.unneeded)}")
    return 0


def _sign(it: Opened, _: argparse.Namespace) -> int:
    from boxwright.repositories.binary.upkeep import sign_all

    key = signing_key(it.configured)
    say(f"{sign_all(it.catalog, it.place(), key)} records signed by the key {key.public.id}")
    return 0


def _revoke(it: Opened, options: argparse.Namespace) -> int:
    if len(options.key) != 16 or not set(options.key) <= set("0123456789abcdef"):
        raise UsageError("key.wrong", f"{options.key!r} is no id of a key", hint="sixteen hexadecimal digits")
    it.catalog.initialise(it.place())
    it.catalog.revoke(it.place(), signing_key(it.configured), options.key, options.reason, int(time.time()))
    say(f"the key {options.key} no longer counts at {it.configured.name}")
    return 0
