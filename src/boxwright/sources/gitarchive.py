"""A commit of a git repository as a tar, by git itself, whose ids say that the content is the one asked for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence

from boxwright.errors import FetchError
from boxwright.sources.process import run_program

QUIET = ("-c", "advice.detachedHead=false", "-c", "safe.directory=*", "-c", "protocol.ext.allow=never")


def archive_commit(urls: Sequence[str], commit: str, destination: str, output: Callable[[bytes], None]) -> None:
    """Write the tree of `commit` from the first of `urls` that has it. Raises FetchError `source.fetch`."""
    failures: list[str] = []
    for url in urls:
        output(f"fetching {url} {commit}\n".encode())
        with tempfile.TemporaryDirectory(prefix="boxwright-git") as directory:
            failure = _fetch(url, commit, directory)
            if not failure:
                done = run_program(
                    ["git", *QUIET, "-C", directory, "archive", "--format=tar", f"--output={destination}", commit],
                    package="git",
                    env={"GIT_CONFIG_NOSYSTEM": "1", "GIT_ATTR_NOSYSTEM": "1"},
                )
                if not done.status:
                    return
                failure = done.tail
        failures.append(f"{url}: {failure}")
    said = "\n  ".join(failures)
    raise FetchError("source.fetch", f"commit {commit} can't be fetched:\n  {said}", hint="is the commit still there?")


def _fetch(url: str, commit: str, directory: str) -> str:
    """Fetch the one commit, else, where the server doesn't give single ones, everything. Returns what went wrong."""
    environment = {"GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*words: str) -> str:
        done = run_program(["git", *QUIET, "-C", directory, *words], package="git", env=environment)
        return (done.tail or f"git ended with {done.status}") if done.status else ""

    failure = git("init", "--quiet", "--bare")
    if failure or not git("fetch", "--quiet", "--depth=1", "--", os.fspath(url), commit):
        return failure
    failure = git("fetch", "--quiet", "--", url, "+refs/*:refs/all/*")
    return failure or git("cat-file", "-e", f"{commit}^{{commit}}")


def resolve_reference(url: str, reference: str) -> str:
    """The commit that a branch or tag is now. Raises FetchError."""
    done = run_program(
        ["git", *QUIET, "ls-remote", "--", url, reference, f"{reference}^{{}}"],
        package="git",
        env={"GIT_TERMINAL_PROMPT": "0"},
    )
    lines = done.stdout.decode("utf-8", "replace").split("\n")
    found = [line.split("\t")[0] for line in lines if line.count("\t") == 1]
    if done.status or not found:
        raise FetchError("source.fetch", f"{url} has no {reference}: {done.tail or 'nothing of that name'}")
    return found[-1]
