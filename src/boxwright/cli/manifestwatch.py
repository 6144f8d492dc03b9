"""`build --watch`: a manifest is built again whenever what it stands on changes."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from boxwright.app.manifest.kept import look
from boxwright.cli.console import complain, note
from boxwright.cli.manifestbuild import build_once, prepared
from boxwright.errors import BoxwrightError, FetchError

if TYPE_CHECKING:
    from boxwright.app.manifest.building import ManifestBuild

SECONDS = 1.0
"""Between two looks at the files; a server with key/value data is asked as often."""


def watch(options: argparse.Namespace, file: str) -> int:
    """Build until the user ends it. A build that fails is tried again when something changed."""
    looked: tuple[str, ...] = (os.path.abspath(file),)
    last: object = None
    said = ""
    fleeting, force = False, True
    while True:
        try:
            asked = prepared(options, file)
            looked = tuple(dict.fromkeys((*looked, *asked.looked)))
            fleeting, said, wanted = asked.fleeting, "", _wanted(asked)
            if force or wanted != last:
                last = wanted
                build_once(options, file)
                note(f"watching {len(looked)} files of {file}; Ctrl-C ends it")
        except BoxwrightError as error:
            if force or str(error) != said:
                complain(error)
                note(f"watching {len(looked)} files of {file}; Ctrl-C ends it")
            said = str(error)
            fleeting = fleeting or isinstance(error, FetchError)  # a server that is away may come back
        options.no_cache = options.pull = False
        force = _await_change(looked, file, fleeting=fleeting)


def _wanted(asked: ManifestBuild) -> object:
    """What would be built: it is compared with what was built last."""
    return asked.manifest, tuple(decision.key for decision in asked.build.plan.decisions)


def _await_change(looked: Iterable[str], file: str, *, fleeting: bool) -> bool:
    """Until a file changed (True), or servers are to be asked again."""
    before = _state(looked, file)
    while True:
        time.sleep(SECONDS)
        if _state(looked, file) != before:
            return True
        if fleeting:
            return False


def _state(looked: Iterable[str], file: str) -> tuple[object, ...]:
    """What the files look like, and the newest change below the definition's directory."""
    newest = 0
    for parent, directories, names in os.walk(os.path.dirname(os.path.abspath(file))):
        directories[:] = [name for name in directories if name not in (".git", ".venv", "node_modules")]
        for name in (*names, "."):
            try:
                newest = max(newest, os.lstat(f"{parent}/{name}").st_mtime_ns)
            except OSError:
                continue
    return (*(look(path) for path in looked), newest)
