"""Signatures: ed25519 (RFC 8032) over the very bytes of a record, by the library `cryptography`.

A public key is written ``ed25519:BASE64`` of its 32 bytes. Its id is the beginning of their SHA-256. A private key is
a PKCS #8 PEM file that only its owner can read, as openssl and ssh-keygen make them too.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from boxwright.errors import BoxwrightError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PREFIX = "ed25519:"
SIGNATURE_SIZE = 64
_KEY_SIZE = 32
_ID_DIGITS = 16


class PublicKey(NamedTuple):
    """A key by which signatures are checked."""

    raw: bytes

    @property
    def id(self) -> str:
        """What names the key: sixteen hexadecimal digits."""
        return hashlib.sha256(self.raw).hexdigest()[:_ID_DIGITS]

    @property
    def text(self) -> str:
        """The key as configuration has it."""
        return PREFIX + base64.b64encode(self.raw).decode("ascii")

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether this key's owner signed these bytes."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, data)
        except InvalidSignature:
            return False
        return True


def parse_key(text: str) -> PublicKey:
    """A public key as it is written. Raises UsageError `key.wrong`."""
    raw = b""
    with suppress(binascii.Error, UnicodeEncodeError):
        raw = base64.b64decode(text.strip().removeprefix(PREFIX).encode("ascii"), validate=True)
    if not text.strip().startswith(PREFIX) or len(raw) != _KEY_SIZE:
        raise UsageError(
            "key.wrong", f"{text!r} is no key", hint="ed25519:BASE64 is expected, as 'boxwright repo key' prints it"
        )
    return PublicKey(raw)


class PrivateKey:
    """A key that signs."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key().public_bytes_raw())

    def sign(self, data: bytes) -> bytes:
        """The signature of these bytes."""
        return self._key.sign(data)


def read_private_key(path: str) -> PrivateKey:
    """The key in a PEM file. Raises BoxwrightError `key.unreadable`."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    try:
        with open(path, "rb") as file:
            data = file.read()
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise BoxwrightError("key.unreadable", f"the key {path} can't be read: {error.strerror}") from error
    if mode & 0o077:
        raise BoxwrightError("key.open", f"others can read the key {path}", hint=f"chmod 600 {path}")
    load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in data else load_pem_private_key
    try:
        key = load(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BoxwrightError("key.unreadable", f"{path} holds no private key that can be used: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BoxwrightError("key.kind", f"{path} is no ed25519 key", hint="'boxwright repo key FILE' makes one")
    return PrivateKey(key)


def make_private_key(path: str) -> PrivateKey:
    """Make a key and write it to the new file `path`. Raises BoxwrightError `key.exists`."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    directory = os.path.dirname(path) or "."
    part = f"{directory}/.{os.path.basename(path)}.{os.urandom(6).hex()}"
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, text)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.link(part, path)
    except FileExistsError:
        raise BoxwrightError("key.exists", f"{path} is there already", hint="name another file") from None
    except OSError as error:
        raise BoxwrightError("key.unwritable", f"{path} can't be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            os.unlink(part)
    return PrivateKey(key)


class Trust:
    """Whose signatures count: keys that are configured and not revoked."""

    def __init__(self, keys: Sequence[PublicKey], revoked: Collection[str] = ()) -> None:
        self.keys = tuple(dict.fromkeys(key for key in keys if key.id not in revoked))
        self.ids = frozenset(key.id for key in self.keys)
        self._by_id = {key.id: key for key in self.keys}

    def without(self, revoked: Collection[str]) -> Trust:
        """The same with fewer keys."""
        return Trust(self.keys, revoked)

    def accepts(self, signer: str, signature: bytes, data: bytes) -> bool:
        """Whether `signer` counts and signed these bytes."""
        key = self._by_id.get(signer)
        return key is not None and key.verifies(signature, data)
