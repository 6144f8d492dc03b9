"""Signatures of bundles: Ed25519 (RFC 8032) by the openssl program, which the installer in base images has too."""

from __future__ import annotations

import os

from boxwright.errors import BoxwrightError
from boxwright.sources.process import run_program

HINT = "openssl genpkey -algorithm ed25519 -out FILE makes one"


def check_private_key(path: str) -> None:
    """Raise BoxwrightError `bundle.key` where a file holds no Ed25519 private key without a passphrase."""
    found = run_program(["openssl", "pkey", "-in", path, "-noout", "-text", "-passin", "pass:"], package="openssl")
    if found.status or not found.stdout.upper().startswith(b"ED25519 PRIVATE"):
        raise BoxwrightError("bundle.key", f"{path} holds no Ed25519 private key that can be read", hint=HINT)


def sign(path: str, key: str) -> None:
    """Write the signature of a file beside it, as ``PATH.sig``: 64 bytes."""
    part = f"{os.path.dirname(path)}/.{os.path.basename(path)}.sig.{os.getpid()}"
    words = ["pkeyutl", "-sign", "-inkey", key, "-rawin", "-in", path, "-out", part]
    done = run_program(["openssl", *words], package="openssl")
    if done.status:
        raise BoxwrightError("bundle.key", f"openssl could not sign with {key}: {done.tail}", hint=HINT)
    os.rename(part, f"{path}.sig")
