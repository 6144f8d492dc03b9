"""A commit of a git repository as a tar, by git itself, whose ids say that the content is the one asked for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence

from boxwright.errors import FetchError
from boxwright.model.giturl import redacted
from boxwright.sources.gitprogram import LOCAL, fetch_one, has_commit, make_bare, run_git

ATTRIBUTES = "* -export-subst -filter\n"
"""What replaces text by names of refs, or asks a program of this machine (gitattributes(5)), is left as it is."""


def archive_commit(urls: Sequence[str], commit: str, destination: str, output: Callable[[bytes], None]) -> None:
    """Write the tree of `commit` from the first of `urls` that has it. Raises FetchError `source.fetch`.

    The same bytes everywhere: neither the user's configuration counts, nor what of the history happens to be here.
    """
    failures: list[str] = []
    for url in urls:
        output(f"fetching {redacted(url)} {commit}\n".encode())
        with tempfile.TemporaryDirectory(prefix="boxwright-git") as directory:
            failure = _fetch(url, commit, directory)
            if not failure:
                os.makedirs(f"{directory}/info", exist_ok=True)
                with open(f"{directory}/info/attributes", "w", encoding="ascii") as file:
                    file.write(ATTRIBUTES)
                archive = ["-C", directory, "archive", "--format=tar", f"--output={destination}", commit]
                done = run_git(archive, settings=("tar.umask=0002",))
                if not done.status:
                    return
                failure = done.tail
        failures.append(redacted(f"{url}: {failure}"))
    said = "\n  ".join(failures)
    raise FetchError("source.fetch", f"commit {commit} can't be fetched:\n  {said}", hint="is the commit still there?")


def _fetch(url: str, commit: str, directory: str) -> str:
    """Fetch the commit; returns what went wrong."""
    done = make_bare(directory, commit)
    if not done.status:
        done = fetch_one(directory, os.fspath(url), commit, protocols=LOCAL)
    if done.status:
        return done.tail or f"git ended with {done.status}"
    return "" if has_commit(directory, commit) else f"it has no commit {commit}"
