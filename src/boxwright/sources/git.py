"""Trees of git repositories, by the git program.

A repository may be made by a stranger: no transport but http, https, ssh and git is used (not by its submodules
either), and what is asked for can't be taken for an option.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Sequence
from typing import NamedTuple

from boxwright.errors import FetchError
from boxwright.model.giturl import redacted, without_password
from boxwright.sources.gitprogram import fetch_one, has_commit, run_git
from boxwright.sources.process import Finished, never

_WHOLE = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PART = re.compile(r"[0-9a-f]{7,63}")
_REF = re.compile(r"[^\s\x00-\x1f\x7f~^:?*\[\\-][^\s\x00-\x1f\x7f~^:?*\[\\]*")
_SETTINGS = (
    "core.fileMode=true",
    "core.symlinks=true",
    "core.logAllRefUpdates=false",
    "filter.lfs.process=",
    "filter.lfs.smudge=",
    "filter.lfs.required=false",
    "init.defaultBranch=main",
    "transfer.credentialsInUrl=allow",
)
_EVERYTHING = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")


class Commit(NamedTuple):
    """What a ref means: the commit, and the annotated tag that names it, where there is one."""

    commit: str
    tag: str = ""

    def is_named(self, checksum: str) -> bool:
        """Whether the digits that were given are the beginning of it."""
        return self.commit.startswith(checksum) or self.tag.startswith(checksum)


def resolve(remote: str, ref: str, *, cancelled: Callable[[], bool] = never) -> Commit:
    """The commit that `ref` (a branch, a tag, a commit, empty for the default branch) means at `remote` now."""
    if _WHOLE.fullmatch(ref):
        return Commit(ref)
    if ref and (not _REF.fullmatch(ref) or ".." in ref):
        raise FetchError("git.ref", f"{ref!r} is no name of a branch, a tag or a commit")
    name = ref.removeprefix("refs/")
    asked = [f"refs/heads/{name}", f"refs/tags/{name}", f"refs/{name}"] if ref else ["HEAD"]
    patterns = [pattern for place in asked for pattern in (place, f"{place}^{{}}")]
    finished = _git(["ls-remote", "--", _checked(remote), *patterns], cancelled=cancelled)
    if finished.status:
        raise _failed(remote, finished)
    lines = (line.split("\t", 1) for line in finished.stdout.decode("utf-8", "replace").splitlines())
    found = {words[1]: words[0] for words in lines if len(words) == 2 and _WHOLE.fullmatch(words[0])}
    for wanted in asked:
        peeled = found.get(f"{wanted}^{{}}")
        if wanted in found:
            return Commit(peeled, found[wanted]) if peeled else Commit(found[wanted])
    if _PART.fullmatch(ref):
        return _resolve_part(remote, ref, cancelled)
    raise _no_ref(remote, ref)


def tags(remote: str) -> list[str]:
    """The names of the tags of a repository. Raises FetchError."""
    finished = _must(["ls-remote", "--tags", "--refs", "--", _checked(remote)], remote, never)
    lines = finished.stdout.decode("utf-8", "replace").splitlines()
    return [line.partition("refs/tags/")[2] for line in lines]


def _resolve_part(remote: str, ref: str, cancelled: Callable[[], bool]) -> Commit:
    """The commit whose name begins so: for that all of them must be here."""
    directory = tempfile.mkdtemp(prefix="boxwright-git-")
    try:
        _must(["init", "--quiet", "--bare", "--template=", directory], remote, cancelled)
        _must(["-C", directory, "fetch", "--quiet", "--", _checked(remote), *_EVERYTHING], remote, cancelled)
        finished = _git(["-C", directory, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}"], cancelled=cancelled)
        if finished.status:
            raise _no_ref(remote, ref)
        return Commit(finished.stdout.decode("ascii").strip())
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def checkout(
    remote: str, commit: str, directory: str, *, keep_git_dir: bool, cancelled: Callable[[], bool] = never
) -> None:
    """Fill the empty `directory` with the tree of `commit`, submodules included.

    Modes are 0755 and 0644, times the commit's. With `keep_git_dir` its ``.git`` stays, without what is by chance.
    """
    here = ["-C", directory]
    _must(["init", "--quiet", "--template=", directory], remote, cancelled)
    _must([*here, "remote", "add", "--", "origin", _checked(remote)], remote, cancelled)
    _bring(directory, remote, commit, cancelled)
    _must([*here, "checkout", "--quiet", "--force", "--detach", commit, "--"], remote, cancelled)
    if os.path.lexists(f"{directory}/.gitmodules"):
        update = [*here, "submodule", "--quiet", "update", "--init", "--recursive"]
        if _git([*update, "--depth=1"], cancelled=cancelled).status:
            _must(update, remote, cancelled)
    seconds = int(
        _must([*here, "log", "--max-count=1", "--format=%ct", "HEAD", "--"], remote, cancelled).stdout or b"0"
    )
    if keep_git_dir:
        _must([*here, "remote", "set-url", "--", "origin", without_password(remote)], remote, cancelled)
        os.unlink(f"{directory}/.git/index")
        _must([*here, "read-tree", commit], remote, cancelled)
    _tidy(directory, max(0, seconds), keep_git_dir=keep_git_dir)


def _bring(directory: str, remote: str, commit: str, cancelled: Callable[[], bool]) -> None:
    """Fetch one commit into the repository with the remote `origin`."""
    finished = fetch_one(directory, "origin", commit, all_refs=_EVERYTHING, cancelled=cancelled)
    if finished.status:
        raise _failed(remote, finished)
    if not has_commit(directory, commit):
        raise _no_ref(remote, commit)


def _tidy(directory: str, seconds: int, *, keep_git_dir: bool) -> None:
    """Take away git's own files (or those of them that are by chance), and give all others plain modes and one time."""
    if keep_git_dir:
        for name in ("FETCH_HEAD", "ORIG_HEAD", "COMMIT_EDITMSG"):
            if os.path.lexists(f"{directory}/.git/{name}"):
                os.unlink(f"{directory}/.git/{name}")
    for place, directories, files in os.walk(directory, topdown=False):
        for name in files + directories:
            path = f"{place}/{name}"
            mode = os.lstat(path).st_mode
            if name == ".git" and not keep_git_dir:
                shutil.rmtree(path) if stat.S_ISDIR(mode) else os.unlink(path)
                continue
            if not stat.S_ISLNK(mode):
                os.chmod(path, 0o755 if stat.S_ISDIR(mode) or mode & 0o100 else 0o644)
            os.utime(path, (seconds, seconds), follow_symlinks=False)
    os.utime(directory, (seconds, seconds))


def _git(arguments: Sequence[str], *, cancelled: Callable[[], bool]) -> Finished:
    return run_git(arguments, settings=_SETTINGS, cancelled=cancelled)


def _must(arguments: Sequence[str], remote: str, cancelled: Callable[[], bool]) -> Finished:
    finished = _git(arguments, cancelled=cancelled)
    if finished.status:
        raise _failed(remote, finished)
    return finished


def _checked(remote: str) -> str:
    """`remote`, which git can't take for an option or hand to ssh as one."""
    host = remote.partition("://")[2].rpartition("@")[2] if "://" in remote else remote.rpartition("@")[2]
    if remote.startswith("-") or host.startswith("-"):
        raise FetchError("git.url", f"{redacted(remote)!r} is no address of a repository")
    return remote


def _no_ref(remote: str, ref: str) -> FetchError:
    what = ref or "a default branch"
    return FetchError("git.ref", f"{redacted(remote)} has no {what}", hint="a branch, a tag or a commit is expected")


def _failed(remote: str, finished: Finished) -> FetchError:
    said = [line for line in finished.tail.splitlines() if line.strip()]
    reason = next((line for line in said if line.startswith(("fatal:", "error:"))), said[-1] if said else "git failed")
    hint = "is the address right, and may this user read it?"
    return FetchError("git.fetch", f"{redacted(remote)} could not be fetched: {redacted(reason)}", hint=hint)
