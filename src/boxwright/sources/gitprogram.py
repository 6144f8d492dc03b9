"""The git program, as everything here runs it.

A repository may be made by a stranger: no hook runs, no transport is used but those that are named, no question is
asked, and neither the machine's configuration nor one of the user's attributes changes what comes out (git(1),
gitremote-helpers(7)). The user's keys, agent, known hosts and credential helpers count.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from boxwright.sources.process import Finished, never, run_program

SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.attributesFile=/dev/null",
    "core.autocrlf=false",
    "core.eol=lf",
    "core.fsmonitor=false",
    "advice.detachedHead=false",
    "gc.auto=0",
    "safe.directory=*",
    "protocol.ext.allow=never",
)
NETWORK = "http:https:ssh:git"
"""The transports that may be used (GIT_ALLOW_PROTOCOL)."""
LOCAL = f"{NETWORK}:file"
EVERYTHING = ("+refs/*:refs/all/*",)
_KEPT = ("SSH_AUTH_SOCK", "GIT_SSH_COMMAND", "GIT_SSL_CAINFO")


def run_git(
    words: Sequence[str],
    *,
    settings: Sequence[str] = (),
    protocols: str = NETWORK,
    cancelled: Callable[[], bool] = never,
) -> Finished:
    """Run git to its end with these words, and with more settings than those for all."""
    given = [word for setting in (*SETTINGS, *settings) for word in ("-c", setting)]
    environment = {
        "GIT_ALLOW_PROTOCOL": protocols,
        "GIT_ASKPASS": "true",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_SSH_COMMAND": _ssh(),
        "GIT_TERMINAL_PROMPT": "0",
        **{name: value for name in _KEPT if (value := os.environ.get(name))},
    }
    if os.environ.get("SSL_CERT_FILE"):  # as for all else that is fetched
        environment.setdefault("GIT_SSL_CAINFO", os.environ["SSL_CERT_FILE"])
    return run_program(["git", *given, *words], package="git", cancelled=cancelled, env=environment)


def make_bare(directory: str, commit: str) -> Finished:
    """Make an empty bare repository for commits that are named like this one (by SHA-1 or SHA-256)."""
    kind = "sha256" if len(commit) == 64 else "sha1"
    return run_git(["init", "--quiet", "--bare", "--template=", f"--object-format={kind}", directory])


def fetch_one(
    directory: str,
    remote: str,
    commit: str,
    *,
    all_refs: Sequence[str] = EVERYTHING,
    protocols: str = NETWORK,
    cancelled: Callable[[], bool] = never,
) -> Finished:
    """Fetch one commit; from a server that gives only what its refs name, all of them. Ask `has_commit` afterwards."""

    def fetch(*words: str) -> Finished:
        return run_git(["-C", directory, "fetch", "--quiet", *words], protocols=protocols, cancelled=cancelled)

    one = fetch("--depth=1", "--no-tags", "--", remote, commit)
    return fetch("--", remote, *all_refs) if one.status else one


def has_commit(directory: str, commit: str) -> bool:
    """Whether a commit is in a repository here."""
    return not run_git(["-C", directory, "cat-file", "-e", f"{commit}^{{commit}}"]).status


def _ssh() -> str:
    """The user's keys and known hosts, also where ids are mapped and ssh looks in another user's home."""
    import shlex

    command = ["ssh", "-o", "BatchMode=yes"]
    home = os.environ.get("HOME", "")
    if os.path.isfile(f"{home}/.ssh/known_hosts"):
        command += ["-o", f"UserKnownHostsFile={home}/.ssh/known_hosts"]
    for name in ("id_ed25519", "id_ecdsa", "id_rsa"):
        if os.path.isfile(f"{home}/.ssh/{name}"):
            command += ["-i", f"{home}/.ssh/{name}"]
    return shlex.join(command)
