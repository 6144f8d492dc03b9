"""Public keys and signatures: RSA over the bytes that follow (apk-package(5), "SIGNATURE").

Alpine's own keys come with the program (keys/README says where from); others are put into one of the directories that
`apk_places` names, under the file name that a signature gives.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from boxwright.errors import FetchError
from boxwright.sources.process import run_program

_OWN = Path(__file__).parent / "keys"
_MEMBER = re.compile(r"\.SIGN\.(RSA|RSA256|RSA512)\.([A-Za-z0-9@_+.-]+)")
_HASHES = {"RSA": "sha1", "RSA256": "sha256", "RSA512": "sha512"}


class Signature(NamedTuple):
    """One signature: the file name of its key, the hash that it is of, and its bytes."""

    key: str
    hash: str
    data: bytes


class ApkPlaces(NamedTuple):
    """The directories of keys, the first that has a key counts; and where packages are kept for a moment."""

    keys: tuple[str, ...] = ()
    scratch: str | None = None


def apk_places(environment: Mapping[str, str], home: str, scratch: str) -> ApkPlaces:
    """Where keys are looked for, the store's and the user's first; `home` is the store's directory."""
    user = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    keys = (f"{home}/keys/apk", f"{user}/boxwright/apk-keys", "/etc/apk/keys", os.fspath(_OWN))
    return ApkPlaces(keys, scratch)


def read_signature(name: bytes, data: bytes) -> Signature | None:
    """The signature that a member of a signature segment is; None for other members."""
    found = _MEMBER.fullmatch(name.decode("ascii", "replace"))
    return Signature(found[2], _HASHES[found[1]], data) if found else None


def check_signature(
    what: str, signatures: Sequence[Signature], signed: str, directories: Sequence[str]
) -> tuple[str, bytes]:
    """Check the file `signed` against the first signature whose key is known; gives that key's name and text.

    Raises FetchError `base.unsigned`, `base.unknown-key` or `base.bad-signature`.
    """
    if not signatures:
        raise FetchError("base.unsigned", f"{what} is not signed", hint="use another mirror: --mirror URL")
    for signature in signatures:
        for directory in directories:
            path = os.path.join(directory, signature.key)
            if os.path.isfile(path):
                _verify(what, signature, signed, path)
                return signature.key, Path(path).read_bytes()
    names = " or ".join(dict.fromkeys(signature.key for signature in signatures))
    raise FetchError(
        "base.unknown-key",
        f"{what} is signed with a key that is not known here: {names}",
        hint=f"put that file, from where its owner publishes it, into {' or '.join(directories[:3])}",
    )


def _verify(what: str, signature: Signature, signed: str, key: str) -> None:
    with tempfile.NamedTemporaryFile(prefix="boxwright-signature-") as file:
        file.write(signature.data)
        file.flush()
        argv = ["openssl", "dgst", f"-{signature.hash}", "-verify", key, "-signature", file.name, signed]
        finished = run_program(argv, package="openssl")
    if finished.status or finished.stdout.strip() != b"Verified OK":
        raise FetchError(
            "base.bad-signature",
            f"the signature of {what} is wrong: it was not made with {key}, or what it is of was changed",
            hint="use another mirror (--mirror URL), and tell whoever runs this one",
        )
