"""Who a registry is told that we are: the files and helpers of podman and docker (containers-auth.json(5)).

Nothing is kept here; `login` leaves it to skopeo, which asks the registry before it writes.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from boxwright.errors import MachineError
from boxwright.repositories.registry.failures import RegistryError

_DOCKER = "docker.io"
_DOCKER_KEY = "https://index.docker.io/v1/"
_TOKEN_USER = "<token>"  # noqa: S105 - the helpers' own word for "this is a token"
_HELPER = re.compile(r"[A-Za-z0-9_.-]+")
_HELPER_SECONDS = 60.0


class Login(NamedTuple):
    """A user with a password, or an identity token alone."""

    user: str = ""
    password: str = ""
    token: str = ""


def auth_files(environment: Mapping[str, str], user: int) -> tuple[str, ...]:
    """The files that may hold credentials, the first one first."""
    given = environment.get("REGISTRY_AUTH_FILE")
    if given:
        return (given,)
    home = environment.get("HOME", "")
    own = environment.get("XDG_CONFIG_HOME") or f"{home}/.config"
    docker = environment.get("DOCKER_CONFIG") or f"{home}/.docker"
    runtime = environment.get("XDG_RUNTIME_DIR")
    return (
        f"{runtime}/containers/auth.json" if runtime else f"/run/containers/{user}/auth.json",
        f"{own}/containers/auth.json",
        f"{docker}/config.json",
    )


def login_for(host: str, repository: str, environment: Mapping[str, str], user: int) -> Login | None:
    """What a registry is told for a repository; None where nothing is known. Raises RegistryError, MachineError."""
    for path in auth_files(environment, user):
        found = _in_file(path, host, repository, environment)
        if found is not None:
            return found
    return None


def _in_file(path: str, host: str, repository: str, environment: Mapping[str, str]) -> Login | None:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except (ValueError, OSError) as error:
        raise RegistryError("registry.auth-file", f"{path} can't be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise RegistryError("registry.auth-file", f"{path} holds no JSON object")
    helper = _mapping(content, "credHelpers").get(host)
    if isinstance(helper, str) and helper:
        return _ask_helper(helper, host, environment)
    found = _in_auths(path, _mapping(content, "auths"), host, repository)
    store = content.get("credsStore")
    if found is None and isinstance(store, str) and store:
        return _ask_helper(store, host, environment)
    return found


def _mapping(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = content.get(key)
    return found if isinstance(found, dict) else {}


def _in_auths(path: str, auths: Mapping[str, Any], host: str, repository: str) -> Login | None:
    named = {_plain_key(key): value for key, value in auths.items()}
    for key in _keys(host, repository):
        entry = named.get(key)
        if isinstance(entry, dict) and (entry.get("auth") or entry.get("identitytoken")):
            return _decoded(path, key, entry)
    return None


def _keys(host: str, repository: str) -> Iterator[str]:
    """The names under which an entry may stand, the nearest first: with the repository, with its parents, the host."""
    path = repository
    while path:
        yield f"{host}/{path}"
        path = path.rpartition("/")[0]
    yield host
    if host == _DOCKER:
        yield _plain_key(_DOCKER_KEY)


def _plain_key(key: str) -> str:
    """Docker's older keys are addresses: ``https://HOST/v1/``."""
    without = key.removeprefix("https://").removeprefix("http://")
    if without == key:
        return key.rstrip("/")
    return without if key == _DOCKER_KEY else without.partition("/")[0]


def _decoded(path: str, key: str, entry: Mapping[str, Any]) -> Login:
    try:
        user, _, password = base64.b64decode(str(entry.get("auth") or ""), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        message = f"{path}: the entry of {key} is no base64 of USER:PASSWORD"
        raise RegistryError("registry.auth-file", message) from error
    return Login(user, password.rstrip("\0"), str(entry.get("identitytoken") or ""))


def _ask_helper(name: str, host: str, environment: Mapping[str, str]) -> Login | None:
    """Ask ``docker-credential-NAME`` (docker-credential-helpers, "Development"); None where it knows nothing."""
    program = f"docker-credential-{name}"
    found = shutil.which(program, path=environment.get("PATH")) if _HELPER.fullmatch(name) else None
    if found is None:
        hint = f"install it, or log in without it: boxwright login {host}"
        raise MachineError("registry.no-helper", f"the credential helper {program!r} is missing", hint=hint)
    asked = _DOCKER_KEY if host == _DOCKER else host
    try:
        done = subprocess.run(
            [found, "get"], input=asked, capture_output=True, text=True, timeout=_HELPER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RegistryError("registry.helper-failed", f"{program} doesn't answer: {error}") from error
    if done.returncode:
        if "not found" in done.stdout or "not found" in done.stderr:
            return None
        said = (done.stderr or done.stdout).strip()[-200:]
        raise RegistryError("registry.helper-failed", f"{program} ended with {done.returncode}: {said}")
    try:
        answer = json.loads(done.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise RegistryError("registry.helper-failed", f"{program} gives no user and secret") from error
    return Login(token=secret) if user == _TOKEN_USER else Login(user, secret)


def login_file(environment: Mapping[str, str], user: int) -> str:
    """Where `login` writes: a file that lasts, unless REGISTRY_AUTH_FILE names another.

    Podman's own default is gone when the machine starts again.
    """
    files = auth_files(environment, user)
    path = files[0] if len(files) == 1 else files[1]
    os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o700, exist_ok=True)
    return path
