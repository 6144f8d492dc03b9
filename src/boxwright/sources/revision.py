"""The files of one revision of a git repository, the same on every machine.

`git archive` reads a repository made for the purpose that borrows the objects: no configuration, filter, attribute or
name of the user's own repository has a say, only what the revision itself holds (gitattributes(5), export-ignore and
export-subst). Submodules are read likewise, at the commits that the revision names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from boxwright.errors import BoxwrightError, FetchError
from boxwright.model.bundle import BundleFile, plain_mode
from boxwright.model.giturl import redacted
from boxwright.sources.gitprogram import LOCAL, NETWORK, fetch_one, has_commit, make_bare, run_git
from boxwright.sources.process import Finished
from boxwright.sources.tarmembers import DIRECTORY, FILE, SYMLINK, members, skip

GITLINK = "160000"
BLOCK = 512
SETTINGS = ("core.abbrev=12",)


class Repository(NamedTuple):
    """A repository here: its common git directory, where its origin is, and the transports its submodules may use."""

    git_dir: str
    origin: str
    protocols: str


class Submodule(NamedTuple):
    """As .gitmodules has it."""

    name: str
    url: str


def local_repository(directory: str) -> tuple[Repository, str] | None:
    """The repository that `directory` lies in, and its path in there (empty for the root); None where there is none."""
    words = ["rev-parse", "--path-format=absolute", "--git-common-dir", "--show-prefix"]
    found = _git(directory, *words)
    if found.status:
        return None
    git_dir, prefix = found.stdout.decode("utf-8", "surrogateescape").split("\n")[:2]
    origin = _git(directory, "config", "--get", "remote.origin.url").stdout.decode("utf-8", "replace").strip()
    return Repository(git_dir, origin or directory, LOCAL), prefix.rstrip("/")


def find_commit(repository: Repository, revision: str) -> str:
    """The commit that `revision` means. Raises FetchError `git.ref`."""
    found = _git(repository.git_dir, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if found.status:
        hint = "a branch, a tag or a commit is expected"
        raise FetchError("git.ref", f"{redacted(repository.origin)} has no {revision}", hint=hint)
    return found.stdout.decode("ascii").strip()


def has_directory(repository: Repository, commit: str, below: str) -> bool:
    """Whether `commit` has a directory at the path `below`."""
    found = _git(repository.git_dir, "cat-file", "-t", f"{commit}:{below}")
    return not found.status and found.stdout.strip() == b"tree"


def is_ignored(directory: str) -> bool:
    """Whether git ignores `directory` (gitignore(5))."""
    return not _git(directory, "check-ignore", "--quiet", ".").status


def commit_time(repository: Repository, commit: str) -> int:
    """When `commit` was made, in seconds since 1970."""
    return int(_must(repository.git_dir, "log", "-1", "--format=%ct", "--end-of-options", commit).stdout)


def has_changes(directory: str, but: Sequence[str]) -> bool:
    """Whether the working tree differs from its commit in something else than what is below the paths `but`."""
    others = [f":(exclude,literal){path}" for path in but]
    return bool(_git(directory, "status", "--porcelain", "--untracked-files=normal", "--", ".", *others).stdout)


@contextmanager
def borrowed(repository: Repository, scratch: str) -> Iterator[str]:
    """A bare repository with the objects of another one and nothing else of it."""
    import tempfile

    shown = _must(repository.git_dir, "rev-parse", "--show-object-format").stdout.decode("ascii").strip()
    with tempfile.TemporaryDirectory(prefix="git", dir=scratch) as directory:
        _must(scratch, "init", "--quiet", "--bare", "--template=", f"--object-format={shown}", directory)
        os.makedirs(f"{directory}/objects/info", exist_ok=True)
        with open(f"{directory}/objects/info/alternates", "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"{repository.git_dir}/objects\n")
        yield directory


def read_revision(repository: Repository, commit: str, below: str, scratch: str) -> Iterator[BundleFile]:
    """The files of `commit`, those of its submodules included, in git's order. `scratch` must outlive their use.

    `below`: only what is below that path, which is taken away. Raises FetchError `git.archive`, `git.submodule`.
    """
    with borrowed(repository, scratch) as bare:
        tar = f"{bare}.tar"
        paths = ["--", below] if below else []
        finished = _git(bare, "archive", "--format=tar", f"--output={tar}", commit, *paths)
        if finished.status:
            raise FetchError("git.archive", f"git can't read {commit}: {finished.tail}", hint="git fsck says more")
        links = _gitlinks(bare, commit)
        modules = _modules(bare, commit) if links else {}
    for file in _unpacked(tar, below):
        linked = links.get(f"{below}/{file.path}".lstrip("/"))
        if linked is None:
            if file.mode != plain_mode(0o040000):
                yield file
            continue
        path = f"{below}/{file.path}".lstrip("/")
        inner = _submodule(repository, modules, path, linked, scratch)
        for one in read_revision(inner, linked, "", scratch):
            yield one._replace(path=f"{file.path}/{one.path}")


def _unpacked(tar: str, below: str) -> Iterator[BundleFile]:
    start = f"{below}/" if below else ""
    with open(tar, "rb") as stream:
        for member in members(stream):
            name = member.name.decode("utf-8", "surrogateescape").rstrip("/")
            path = name.removeprefix(start) if name.startswith(start) else ""
            if path and member.kind == FILE:
                yield BundleFile(path, plain_mode(0o100000 | member.mode), member.size, tar, stream.tell())
            elif path and member.kind == SYMLINK:
                yield BundleFile(path, plain_mode(0o120000), len(member.link), data=member.link)
            elif path and member.kind == DIRECTORY:
                yield BundleFile(path, plain_mode(0o040000))
            skip(stream, member.size + -member.size % BLOCK)


def _gitlinks(bare: str, commit: str) -> dict[str, str]:
    """The commits of submodules by their paths."""
    if _git(bare, "cat-file", "-e", f"{commit}:.gitmodules").status:
        return {}
    listed = _must(bare, "ls-tree", "-r", "-z", commit).stdout.decode("utf-8", "surrogateescape")
    entries = (entry.partition("\t") for entry in listed.split("\0") if entry.startswith(f"{GITLINK} "))
    return {path: words.split(" ")[2] for words, _, path in entries}


def _modules(bare: str, commit: str) -> dict[str, Submodule]:
    """What .gitmodules says, by path."""
    listed = _must(bare, "config", "--blob", f"{commit}:.gitmodules", "--list", "-z").stdout
    values: dict[str, dict[str, str]] = {}
    for entry in listed.decode("utf-8", "surrogateescape").split("\0"):
        key, _, value = entry.partition("\n")
        name, _, field = key.removeprefix("submodule.").rpartition(".")
        values.setdefault(name, {})[field] = value
    return {it["path"]: Submodule(name, it["url"]) for name, it in values.items() if "path" in it and "url" in it}


def _submodule(
    repository: Repository, modules: dict[str, Submodule], path: str, commit: str, scratch: str
) -> Repository:
    """A repository that holds the commit of a submodule: the one checked out beside its parent, else fetched."""
    module = modules.get(path)
    if module is None:
        raise FetchError("git.submodule", f"{path} is a submodule, but .gitmodules does not say where it is")
    url = _absolute(module.url, repository.origin)
    here = f"{repository.git_dir}/modules/{module.name}"
    inside = ".." not in module.name.split("/")
    if inside and os.path.isdir(here) and has_commit(here, commit):
        return Repository(here, url, repository.protocols)
    return fetch_commit(url, commit, f"{scratch}/module-{commit}", repository.protocols, what=f"the submodule {path}")


def fetch_commit(url: str, commit: str, directory: str, protocols: str = NETWORK, *, what: str = "") -> Repository:
    """A bare repository with one commit of another. Raises FetchError `git.fetch`."""
    repository = Repository(directory, url, protocols)
    if os.path.isdir(directory):
        return repository
    made = make_bare(directory, commit)
    if made.status:
        raise BoxwrightError("git.failed", f"git init failed in {directory}: {made.tail}")
    done = fetch_one(directory, url, commit, protocols=protocols)
    if done.status or not has_commit(directory, commit):
        subject = what or redacted(url)
        reason = redacted(done.tail) or f"it has no commit {commit}"
        raise FetchError("git.fetch", f"{subject} can't be fetched from {redacted(url)}: {reason}")
    return repository


def _absolute(url: str, origin: str) -> str:
    """A submodule's address; one that begins with ./ or ../ stands on its parent's (gitmodules(5))."""
    if not url.startswith(("./", "../")):
        return url
    base = origin.rstrip("/")
    while url.startswith(("./", "../")):
        if url.startswith("../"):
            base = base.rpartition("/")[0]
        url = url.partition("/")[2]
    return f"{base}/{url}"


def _git(directory: str, *words: str) -> Finished:
    return run_git(["-C", directory, *words], settings=SETTINGS)


def _must(directory: str, *words: str) -> Finished:
    finished = _git(directory, *words)
    if finished.status:
        raise BoxwrightError("git.failed", f"git {words[0]} failed in {directory}: {finished.tail}")
    return finished
