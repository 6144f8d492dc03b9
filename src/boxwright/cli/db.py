"""Back up a database of a stack as SQL, or restore it."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING

from boxwright.cli.console import human_size, say
from boxwright.cli.stackoptions import add_engine, agree, meant, members, opened, split_member
from boxwright.errors import BoxwrightError, UsageError

if TYPE_CHECKING:
    from boxwright.deploy.engine import DeployEngine
    from boxwright.model.deployment import Instance

SECONDS = 3600.0
PROGRAM = "/usr/local/lib/boxwright/database"
_THERE = "what was there is there still"
_NOT_BACK = 3
_PUT_BACK = "what was there is in /var/lib/dbase/before.sql, and is put back when the instance starts again"
_UNKNOWN = "it is not known how far it came: it has the old content or the new one, at the latest when it starts again"


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `db`."""
    add = parser.add_argument
    add("action", choices=("backup", "restore"))
    add("name", metavar="[STACK/]NAME", help="the database's container")
    add(
        "file",
        nargs="?",
        metavar="FILE",
        help="default of a backup: STACK-NAME-TIME.sql; - is standard output or input",
    )
    add("-y", "--yes", action="store_true", help="restore without asking")
    add_engine(parser)


def run(options: argparse.Namespace) -> int:
    """Do it."""
    from boxwright.app.opening import open_store

    stack, name = split_member(options.name)
    found = meant(stack or None, options)
    with open_store(os.environ) as store, opened(found, store) as engine:
        instance = next((it for it in members(engine, found.name, name) if it.state == "running"), None)
        if instance is None or instance.spec is None or instance.spec.argv[:1] != (PROGRAM,):
            raise BoxwrightError("db.none", f"{found.name}/{name} is no database that runs", hint="boxwright status")
        if options.action == "backup":
            return _backup(
                engine, instance, options.file or f"{found.name}-{name}-{time.strftime('%Y%m%d-%H%M%S')}.sql"
            )
        return _restore(engine, instance, options)


def _backup(engine: DeployEngine, instance: Instance, file: str) -> int:
    """The whole content, or no file at all."""
    done = engine.execute(instance.name, (PROGRAM, "backup"), SECONDS)
    if done.status:
        raise BoxwrightError("db.backup", f"{instance.logical}: {done.output[-2000:].decode(errors='replace').strip()}")
    if file == "-":
        sys.stdout.buffer.write(done.output)
        return 0
    temporary = f"{file}.{os.getpid()}.new"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as written:
        written.write(done.output)
    os.rename(temporary, file)
    say(f"{file}  {human_size(len(done.output))}")
    return 0


def _restore(engine: DeployEngine, instance: Instance, options: argparse.Namespace) -> int:
    """In place of what is there; where it can't be loaded, that is there still, or is put back."""
    if options.file is None:
        raise UsageError("usage.file", "which file should be restored?", hint="boxwright db restore STACK/NAME FILE")
    agree(f"replace all that is in {instance.logical}", yes=options.yes)
    if options.file == "-":
        content = sys.stdin.buffer.read()
    else:
        with open(options.file, "rb") as file:
            content = file.read()
    try:
        done = engine.execute(instance.name, (PROGRAM, "restore", str(len(content))), SECONDS, content)
    except BoxwrightError as error:
        raise BoxwrightError("db.restore", f"{instance.logical}: {error.message}", hint=_UNKNOWN) from error
    if done.status:
        said = done.output[-2000:].decode(errors="replace").strip()
        hint = _THERE if done.status == 1 else _PUT_BACK if done.status == _NOT_BACK else _UNKNOWN
        raise BoxwrightError("db.restore", f"{instance.logical}: {said}", hint=hint)
    say(f"{instance.logical}: restored")
    return 0
