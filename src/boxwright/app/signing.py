"""Signatures of images in cosign's format (sigstore/cosign, specs/SIGNATURE_SPEC.md), by the library `cryptography`.

Keys are PEM files: ed25519, or ECDSA over SHA-256. `cosign verify --key` reads what is written here.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from boxwright.errors import BoxwrightError, UsageError
from boxwright.images.config import canonical_json
from boxwright.model.digest import Digest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PAYLOAD_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
ARTIFACT_TYPE = "application/vnd.dev.cosign.artifact.sig.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
ENVELOPE_TYPE = "application/vnd.dsse.envelope.v1+json"
STATEMENT_TYPE = "application/vnd.in-toto+json"
PREDICATE = "predicateType"


class Signer:
    """A private key."""

    def __init__(self, key: Ed25519PrivateKey | EllipticCurvePrivateKey) -> None:
        self._key = key

    def sign(self, data: bytes) -> bytes:
        """The signature of `data`: of ECDSA in ASN.1."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.hashes import SHA256

        if isinstance(self._key, EllipticCurvePrivateKey):
            return self._key.sign(data, ECDSA(SHA256()))
        return self._key.sign(data)


class Verifier:
    """A public key."""

    def __init__(self, key: Ed25519PublicKey | EllipticCurvePublicKey) -> None:
        self._key = key

    def accepts(self, signature: bytes, data: bytes) -> bool:
        """Whether `signature` is this key's, of `data`."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
        from cryptography.hazmat.primitives.hashes import SHA256

        try:
            if isinstance(self._key, EllipticCurvePublicKey):
                self._key.verify(signature, data, ECDSA(SHA256()))
            else:
                self._key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


def read_signer(path: str, environment: Mapping[str, str]) -> Signer:
    """The private key of a PEM file, of which COSIGN_PASSWORD is the password. Raises UsageError `key.*`."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _read(path)
    if b"SIGSTORE" in data or b"COSIGN PRIVATE" in data:
        hint = "openssl genpkey -algorithm ed25519 -out KEY makes one that cosign takes too: cosign import-key-pair"
        raise UsageError("key.kind", f"{path} is in cosign's own encryption", hint=hint)
    if os.stat(path).st_mode & 0o077:
        raise UsageError("key.open", f"others can read the key {path}", hint=f"chmod 600 {path}")
    password = environment.get("COSIGN_PASSWORD")
    try:
        key = load_pem_private_key(data, password.encode() if password and b"ENCRYPTED" in data else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError("key.unreadable", f"{path} holds no private key that can be used: {error}") from error
    if not isinstance(key, Ed25519PrivateKey | EllipticCurvePrivateKey):
        raise UsageError("key.kind", f"{path} is no ed25519 or ECDSA key")
    return Signer(key)


def read_verifier(path: str) -> Verifier:
    """The public key of a PEM file. Raises UsageError `key.*`."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError("key.unreadable", f"{path} holds no public key that can be used: {error}") from error
    if not isinstance(key, Ed25519PublicKey | EllipticCurvePublicKey):
        raise UsageError("key.kind", f"{path} is no ed25519 or ECDSA key")
    return Verifier(key)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError as error:
        raise UsageError("key.unreadable", f"the key {path} can't be read: {error.strerror}") from error


def payload(repository: str, digest: Digest) -> bytes:
    """What is signed of an image (containers/image, "atomic-signature", in cosign's words)."""
    critical = {
        "identity": {"docker-reference": repository},
        "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
    }
    return canonical_json({"critical": critical, "optional": None})


def is_signed(layer: Mapping[str, Any], data: bytes, digest: Digest, verifier: Verifier) -> bool:
    """Whether a layer of a signature's manifest, whose payload is `data`, signs a manifest's digest."""
    notes = layer.get("annotations")
    text = notes.get(SIGNATURE) if isinstance(notes, dict) else None
    try:
        signature = base64.b64decode(str(text), validate=True)
        said = json.loads(data)["critical"]
        same = said["image"]["docker-manifest-digest"] == digest
    except (binascii.Error, ValueError, KeyError, TypeError, RecursionError):
        return False
    return same and said.get("type") == "cosign container image signature" and verifier.accepts(signature, data)


def envelope(statement: bytes, signer: Signer) -> bytes:
    """A signed statement (secure-systems-lab/dsse, "Protocol", "Envelope")."""
    kind = STATEMENT_TYPE
    encoded = f"DSSEv1 {len(kind)} {kind} {len(statement)} ".encode() + statement
    signature = base64.b64encode(signer.sign(encoded)).decode("ascii")
    payload_text = base64.b64encode(statement).decode("ascii")
    return canonical_json(
        {"payload": payload_text, "payloadType": kind, "signatures": [{"keyid": "", "sig": signature}]}
    )


def unsigned(name: str) -> BoxwrightError:
    """The error for an image that no such key signed."""
    hint = "don't use it, or find out who signs these images"
    return BoxwrightError("registry.signature", f"{name} is not signed by this key", hint=hint)
