"""Named volumes: those of containers, and those of stacks with their snapshots, copies and backups."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from boxwright.cli.console import human_size, say
from boxwright.cli.stackoptions import PATIENCE, add_engine, agree, meant, opened, refuse_engine, split_member
from boxwright.errors import BoxwrightError, UsageError

if TYPE_CHECKING:
    from boxwright.deploy.engine import DeployEngine
    from boxwright.model.volumes import VolumeSnapshot, VolumeState


def configure(parser: argparse.ArgumentParser) -> None:
    """The subcommands of `volume`."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "List volumes: of containers, or of a stack with their snapshots and copies."
    ls = commands.add_parser("ls", help="list volumes", description=text)
    ls.add_argument("stack", nargs="?", metavar="STACK", help="a stack's name or definition; . is the one here")
    ls.add_argument("-q", "--quiet", action="store_true", help="names alone")
    ls.add_argument("--json", action="store_true")
    add_engine(ls)
    text = "Remove volumes that no container mounts, with all that is in them."
    rm = commands.add_parser("rm", help="remove volumes", description=text)
    rm.add_argument("names", nargs="+", metavar="NAME")
    for name, text in (
        ("snapshot", "take a snapshot of a stack's volume"),
        ("restore", "make a stack's volume what it was; what mounts it is stopped for that time"),
        ("delete-snapshot", "remove a snapshot"),
        ("backup", "write a stack's volume into a file"),
        ("copy", "bring the copies on other members up to date now"),
    ):
        made = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        made.add_argument("name", metavar="[STACK/]VOLUME")
        if name in ("snapshot", "restore"):
            made.add_argument(
                "snapshot", nargs="?", metavar="SNAPSHOT", help="its name; a new one's default is the time"
            )
        if name == "delete-snapshot":
            made.add_argument("snapshot", metavar="SNAPSHOT")
        if name == "restore":
            made.add_argument("--file", metavar="FILE", help="from what `volume backup` wrote; - is standard input")
            made.add_argument("-y", "--yes", action="store_true", help="don't ask")
        if name == "backup":
            made.add_argument("file", nargs="?", metavar="FILE", help="default: STACK-VOLUME-TIME.backup")
        add_engine(made)


def run(options: argparse.Namespace) -> int:
    """Do what is asked."""
    if options.action == "ls":
        if options.stack:
            return _list_stack(options)
        refuse_engine(options, "volumes of containers")
        return _list(quiet=options.quiet, as_json=options.json)
    if options.action == "rm":
        from boxwright.app.volumes import remove

        for name in options.names:
            remove(os.environ, name)
            say(name)
        return 0
    from boxwright.app.opening import open_store

    stack, volume = split_member(options.name)
    found = meant(stack or None, options)
    work = {
        "snapshot": _snapshot,
        "restore": _restore,
        "delete-snapshot": _delete_snapshot,
        "backup": _backup,
        "copy": _copy,
    }[options.action]
    with open_store(os.environ) as store, opened(found, store) as engine:
        work(engine, found.name, volume, options)
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


# Volumes of stacks ---------------------------------------------------------------------------------------------------


def _list_stack(options: argparse.Namespace) -> int:
    from boxwright.app.opening import open_store
    from boxwright.cli.status import describe_volume, volume_fields
    from boxwright.model.volumes import VolumeState

    found = meant(options.stack, options)
    with open_store(os.environ) as store, opened(found, store) as engine:
        observed = engine.observe(found.name)
        known = {it.name: it for it in observed.states}
        states: list[VolumeState] = [known.get(name, VolumeState(name)) for name in observed.volumes]
        names = {it.name: [x.name for x in _snapshots(engine, found.name, it)] for it in states}
    if options.json:
        say(json.dumps([{**volume_fields(it), "snapshots": names[it.name]} for it in states], indent=2))
        return 0
    for it in states:
        say(it.name if options.quiet else describe_volume(it))
        for name in () if options.quiet else names[it.name]:
            say(f"  snapshot {name}")
    return 0


def _snapshots(engine: DeployEngine, stack: str, state: VolumeState) -> list[VolumeSnapshot]:
    """None of one whose member does not answer."""
    try:
        return list(engine.snapshots(stack, state.name))
    except BoxwrightError:
        if not state.member:
            raise
        return []


def _snapshot(engine: DeployEngine, stack: str, volume: str, options: argparse.Namespace) -> None:
    from boxwright.engines.volumes import check_name
    from boxwright.model.volumes import snapshot_name

    name = check_name(options.snapshot or snapshot_name(time.time()))
    with engine.copying(stack, PATIENCE):
        engine.take_snapshot(stack, volume, name)
    say(f"{volume}  {name}")


def _delete_snapshot(engine: DeployEngine, stack: str, volume: str, options: argparse.Namespace) -> None:
    with engine.copying(stack, PATIENCE):
        engine.delete_snapshot(stack, volume, options.snapshot)
    say(options.snapshot)


def _restore(engine: DeployEngine, stack: str, volume: str, options: argparse.Namespace) -> None:
    from boxwright.app.stacks.volumes import put_back

    if bool(options.snapshot) == bool(options.file):
        hint = f"boxwright volume restore {stack}/{volume} SNAPSHOT, or --file FILE"
        raise UsageError("usage.snapshot", "what should it be restored from?", hint=hint)
    agree(f"replace all that is in the volume {volume} of {stack}", yes=options.yes)
    if not options.file:
        put_back(engine, stack, volume, PATIENCE, lambda: engine.restore_snapshot(stack, volume, options.snapshot))
    elif options.file == "-":
        put_back(engine, stack, volume, PATIENCE, lambda: engine.read_backup(stack, volume, sys.stdin.buffer))
    else:
        with _opened_file(options.file) as file:
            put_back(engine, stack, volume, PATIENCE, lambda: engine.read_backup(stack, volume, file))
    say(f"{volume}: restored")


def _opened_file(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise UsageError("usage.file", f"{path}: {error.strerror}") from error


def _backup(engine: DeployEngine, stack: str, volume: str, options: argparse.Namespace) -> None:
    """The whole content, or no file at all."""
    if options.file == "-":
        engine.write_backup(stack, volume, sys.stdout.buffer)
        return
    file = options.file or f"{stack}-{volume}-{time.strftime('%Y%m%d-%H%M%S')}.backup"
    temporary = f"{file}.{os.getpid()}.new"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as written:
            engine.write_backup(stack, volume, written)
        size = os.stat(temporary).st_size
        os.rename(temporary, file)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    say(f"{file}  {human_size(size)}")


def _copy(engine: DeployEngine, stack: str, volume: str, options: argparse.Namespace) -> None:
    """To the members that are to have one."""
    from boxwright.app.stacks.upkeep import copy_now

    del options
    for member in copy_now(engine, stack, volume):
        say(f"{volume}  {member}")
