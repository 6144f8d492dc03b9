"""`build --watch`: a manifest is built again whenever what it stands on changes."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable

from boxwright.app.manifest.kept import look
from boxwright.cli.console import complain, note
from boxwright.cli.manifestbuild import build_once
from boxwright.errors import BoxwrightError

SECONDS = 1.0
"""Between two looks at the files; a server with key/value data is asked as often."""


def watch(options: argparse.Namespace, file: str) -> int:
    """Build until the user ends it. A build that fails is tried again when something changed."""
    looked: tuple[str, ...] = (os.path.abspath(file),)
    while True:
        fleeting = False
        before = _state(looked, file)
        try:
            _, planned = build_once(options, file)
            looked = tuple(dict.fromkeys((*looked, *planned.looked)))
            fleeting = planned.fleeting
        except BoxwrightError as error:
            complain(error)
        note(f"watching {len(looked)} files of {file}; Ctrl-C ends it")
        options.no_cache = options.pull = False
        before = before if before == _state(looked, file) else _state(looked, file)
        while _state(looked, file) == before:
            time.sleep(SECONDS)
            if fleeting:
                break


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
