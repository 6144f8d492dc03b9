"""Secrets among what LXD remembers: sealed in the project's configuration, the key in the server's.

Who may use a project sees its configuration; that of the server is shown to its administrators alone (LXD,
doc/reference/server_settings.md). Both are in the database that all members have, so secrets are there as long as the
cluster is. Sealed with ChaCha20-Poly1305 (RFC 8439), bound to the stack and the document's name.
"""

from __future__ import annotations

import base64
import os
from typing import Any

from boxwright.engines.lxdclient.client import LxdClient
from boxwright.engines.lxdclient.failures import LxdError
from boxwright.errors import BoxwrightError

KEY = "user.boxwright.key"
"""In the server's configuration."""
SEALED = "sealed:"
"""Before what is sealed."""
_BYTES, _NONCE = 32, 12


class Seal:
    """The key of a server or a cluster; it is made when something is sealed first."""

    def __init__(self, client: LxdClient) -> None:
        self._client = client
        self._key = b""

    def close(self, data: bytes, where: str) -> str:
        """Text that only who has the key can read. `where`: what it is of."""
        nonce = os.urandom(_NONCE)
        return SEALED + base64.b64encode(nonce + self._cipher(make=True).encrypt(nonce, data, where.encode())).decode()

    def open(self, text: str, where: str) -> bytes:
        """The bytes. Raises BoxwrightError `deploy.sealed` where the key is another one, or somebody changed them."""
        from cryptography.exceptions import InvalidTag

        try:
            raw = base64.b64decode(text.removeprefix(SEALED), validate=True)
            opened: bytes = self._cipher(make=False).decrypt(raw[:_NONCE], raw[_NONCE:], where.encode())
        except (InvalidTag, ValueError) as error:
            message = f"the secrets of {where} can't be read: LXD's {KEY} is not the one they were sealed with"
            hint = f"give it back (lxc config set {KEY} ...), or destroy the stack and deploy it anew"
            raise BoxwrightError("deploy.sealed", message, hint=hint) from error
        return opened

    def _cipher(self, *, make: bool) -> Any:  # noqa: ANN401  imported when it is needed
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        return ChaCha20Poly1305(self._known(make=make))

    def _known(self, *, make: bool) -> bytes:
        """Raises ValueError where there is none, or it is none of ours."""
        if not self._key:
            found, tag = self._client.etag("")
            text = (found.get("config") or {}).get(KEY, "")
            if not text and make:
                text = self._made(tag)
            self._key = base64.b64decode(text, validate=True)
        return self._key

    def _made(self, tag: str) -> str:
        """A new one; another process's, where that was first."""
        text = base64.b64encode(os.urandom(_BYTES)).decode()
        try:
            self._client.run("PATCH", "", {"config": {KEY: text}}, etag=tag)
        except LxdError as error:
            if error.code != "lxd.changed":
                raise
            found = self._client.get("").get("config") or {}
            return str(found.get(KEY, "")) or self._made(self._client.etag("")[1])
        return text
