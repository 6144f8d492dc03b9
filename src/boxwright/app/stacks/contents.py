"""What instances are given beside their images: files of the definition, dumps, secrets. Kept in the engine.

Files are kept by their digests as long as a release needs them, so that it can be gone back to. Secrets are made once,
and again when that is asked for: the next one is ``NAME#2``, and an older release has the older one. One that comes
from a file or a variable is known by a keyed hash, so that a changed value is seen and never shown.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterable, Mapping

from boxwright.deploy.applying import SECRET
from boxwright.deploy.engine import DeployEngine
from boxwright.engines.envsecrets import secrets_program
from boxwright.errors import BoxwrightError, DefinitionError
from boxwright.model.deployment import Backend, InstanceSpec
from boxwright.model.digest import digest_of
from boxwright.model.stack import Stack, StackSecret

DOCUMENT = "secrets"
_KEY = ".key"
_LENGTH = 20
_SHORT = 12
_AGAIN = "#"


class StackContents:
    """Those of one stack on one engine. `files` are paths by digest, for what is not kept in the engine."""

    def __init__(self, engine: DeployEngine, stack: str, files: Mapping[str, str]) -> None:
        self._engine = engine
        self._stack = stack
        self._files = files
        raw = engine.read_document(stack, DOCUMENT)
        self._secrets: dict[str, str] = json.loads(raw) if raw else {}
        self._changed = False

    def content(self, reference: str) -> bytes:
        """The bytes of a digest or of ``secret:NAME``. Raises BoxwrightError `deploy.content-gone`."""
        if reference.startswith(SECRET):
            name = reference.removeprefix(SECRET)
            if name not in self._secrets:
                raise _gone(f"the secret {name.partition('@')[0].partition(_AGAIN)[0]}")
            return base64.b64decode(self._secrets[name])
        if reference in self._files:
            with open(self._files[reference], "rb") as file:
                return file.read()
        kept = self._engine.read_document(self._stack, content_document(reference))
        if kept is None:
            raise _gone(f"a file with the digest {reference}")
        return kept

    def secret_program(self) -> bytes:
        """What starts a program with secrets in its environment."""
        return secrets_program(self._engine.machine())

    def made(self, name: str) -> str:
        """The newest of a secret that is made when it is first needed; returns its reference's name."""
        newest = self._newest(name)
        return newest if newest in self._secrets else self._make(name)

    def rotate(self, name: str) -> None:
        """Make a secret anew; what it was stays for older releases."""
        newest = self._newest(name)
        if newest in self._secrets:
            self._make(f"{name}{_AGAIN}{int(newest.partition(_AGAIN)[2] or 1) + 1}")

    def _newest(self, name: str) -> str:
        later = [it for it in self._secrets if it.startswith(f"{name}{_AGAIN}")]
        return max(later, key=lambda it: int(it.partition(_AGAIN)[2]), default=name)

    def _make(self, name: str) -> str:
        self._secrets[name] = _encoded(secrets.token_hex(_LENGTH).encode())
        self._changed = True
        return name

    def given(self, secret: StackSecret, environment: Mapping[str, str]) -> str:
        """One of `secrets:`; returns its reference's name, which changes with its value."""
        if not secret.file and not secret.env:
            return self.made(secret.name)
        if secret.file:
            with open(secret.file, "rb") as file:
                value = file.read()
        elif secret.env in environment:
            value = environment[secret.env].encode("utf-8", "surrogateescape")
        else:
            message = f"the secret {secret.name} should be in the variable {secret.env}, which is not set"
            raise DefinitionError("stack.secret-missing", message, hint=f"{secret.env}=... boxwright deploy")
        key = base64.b64decode(self._secrets[self.made(_KEY)])
        name = f"{secret.name}@{hmac.new(key, value, hashlib.sha256).hexdigest()[:_SHORT]}"
        if name not in self._secrets:
            self._secrets[name] = _encoded(value)
            self._changed = True
        return name

    def keep(self) -> None:
        """Write new secrets into the engine, before anything uses them."""
        if self._changed:
            text = json.dumps(self._secrets, sort_keys=True)
            self._engine.write_document(self._stack, DOCUMENT, text.encode())
            self._changed = False

    def keep_file(self, reference: str) -> None:
        """Keep a file's content in the engine, for later releases."""
        if self._engine.read_document(self._stack, content_document(reference)) is None:
            self._engine.write_document(self._stack, content_document(reference), self.content(reference))


def content_document(reference: str) -> str:
    """Where a file's content is kept in the engine."""
    return f"content-{reference.removeprefix('sha256:')}"


def kept_files(instances: Iterable[InstanceSpec], backends: Iterable[Backend]) -> set[str]:
    """The digests of files that are to be kept for them."""
    found = {file.content for it in instances for file in it.files} | {it.certificate for it in backends}
    return {it for it in found if it.startswith("sha256:")}


def file_digests(stack: Stack) -> dict[str, str]:
    """The digest of each file that the definition names, by path."""
    paths = [use.source for container in stack.containers for use in container.files]
    paths += [balancer.certificate for balancer in stack.balancers if balancer.certificate]
    return {path: digest_of_file(path) for path in paths}


def digest_of_file(path: str) -> str:
    """A file's digest. Raises DefinitionError `stack.no-file` for what is none."""
    if not os.path.isfile(path):
        raise DefinitionError("stack.no-file", f"{path} is no file")
    with open(path, "rb") as file:
        return digest_of(file.read())


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _gone(what: str) -> BoxwrightError:
    hint = "deploy from the definition again"
    return BoxwrightError("deploy.content-gone", f"{what} is not kept in the engine any more", hint=hint)
