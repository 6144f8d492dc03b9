"""The one time of a build (https://reproducible-builds.org/specs/source-date-epoch/)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from boxwright.errors import UsageError

CONSTANT = 315532800
"""1980-01-01, the earliest time that every archive format can hold: for a context without a history."""


class Moment(NamedTuple):
    """`epoch` in seconds since 1970; `given` when the user said it, who then means it to count in keys."""

    epoch: int
    given: bool


def build_moment(
    environment: Mapping[str, str],
    build_args: Mapping[str, str],
    directory: str | None,
    committed: int | None = None,
) -> Moment:
    """Given (``--build-arg`` or environment), else the last commit of the context, else a constant.

    `committed` is that commit's time where it is known.
    """
    text = build_args.get("SOURCE_DATE_EPOCH") or environment.get("SOURCE_DATE_EPOCH")
    if text:
        if not text.isdecimal():
            raise UsageError("usage.epoch", f"SOURCE_DATE_EPOCH={text}: seconds since 1970 are expected")
        return Moment(int(text), given=True)
    if committed is None and directory:
        committed = _last_commit(directory)
    return Moment(CONSTANT if committed is None else committed, given=False)


def _last_commit(directory: str) -> int | None:
    place = os.path.realpath(directory)
    while not os.path.exists(f"{place}/.git"):
        parent = os.path.dirname(place)
        if parent == place:
            return None
        place = parent
    import subprocess

    try:
        answer = subprocess.run(
            ["git", "-c", "safe.directory=*", "log", "-1", "--format=%ct", "--", "."],
            cwd=directory,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    seconds = answer.stdout.strip()
    return int(seconds) if answer.returncode == 0 and seconds.isdecimal() else None
