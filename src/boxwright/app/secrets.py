"""The secrets of one build (``--secret``). They are held in memory alone."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping, Sequence

from boxwright.errors import UsageError
from boxwright.store.home import Home, unusable

LARGEST = 500 << 10
KEY_BYTES = 32
OPTIONS = ("id", "type", "src", "source", "env")


def read_secrets(given: Sequence[str], environment: Mapping[str, str]) -> dict[str, bytes]:
    """``--secret id=ID[,src=FILE|,env=NAME][,type=file|env]``, each read now. Raises UsageError.

    Where neither is named it is the variable ID, if there is one, else the file ID.
    """
    secrets: dict[str, bytes] = {}
    for text in given:
        options = _options(text)
        name = options.get("id", "")
        if not name or name in secrets:
            hint = "--secret id=ID,src=FILE or --secret id=ID,env=NAME"
            raise UsageError("usage.secret", f"--secret {text}: an id of its own is expected", hint=hint)
        secrets[name] = _value(text, options, name, environment)
    return secrets


def _options(text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for item in text.split(","):
        key, equals, value = item.strip().partition("=")
        key = {"source": "src"}.get(key.lower(), key.lower())
        if not equals or key not in OPTIONS:
            raise UsageError("usage.secret", f"--secret {text}: {item!r} is not understood", hint=", ".join(OPTIONS))
        options[key] = value
    if options.get("type", "file") not in ("file", "env"):
        raise UsageError("usage.secret", f"--secret {text}: type is file or env")
    return options


def _value(text: str, options: Mapping[str, str], name: str, environment: Mapping[str, str]) -> bytes:
    variable = options.get("env", "")
    path = options.get("src", "")
    if options.get("type") == "env" and not variable:
        variable, path = path or name, ""
    if not variable and not path:
        variable, path = (name, "") if name in environment and options.get("type") != "file" else ("", name)
    if variable:
        if variable not in environment:
            raise UsageError("usage.secret", f"--secret {text}: there is no variable {variable}")
        return environment[variable].encode("utf-8", "surrogateescape")
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise UsageError("usage.secret", f"--secret {text}: {path} can't be read: {error.strerror}") from error
    if len(data) > LARGEST:
        raise UsageError("usage.secret", f"--secret {text}: {path} has more than {LARGEST} bytes")
    return data


class BuildSecrets:
    """The secrets, and what stands for them in keys where `counted` asks for that."""

    def __init__(self, values: Mapping[str, bytes], home: Home, *, in_key: bool) -> None:
        self._values = values
        self._home = home
        self._in_key = in_key
        self._key = b""

    def value(self, name: str) -> bytes | None:
        """The secret, None where it was not given."""
        return self._values.get(name)

    def counted(self, name: str) -> str | None:
        """HMAC-SHA256 (RFC 2104) of the secret with a key of this store's own; None where secrets don't count.

        Who finds the key in a record can't try values without that key.
        """
        if not self._in_key or name not in self._values:
            return None
        self._key = self._key or store_key(self._home)
        return hmac.new(self._key, self._values[name], hashlib.sha256).hexdigest()


def store_key(home: Home) -> bytes:
    """The store's own key, made where there is none yet; one for all processes."""
    try:
        try:
            return _read(home.secret_key)
        except FileNotFoundError:
            temporary = f"{home.secret_key}.{os.getpid()}"
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            os.write(descriptor, os.urandom(KEY_BYTES))
            os.close(descriptor)
            try:
                os.link(temporary, home.secret_key)
            except FileExistsError:
                pass  # another process was quicker
            finally:
                os.unlink(temporary)
            return _read(home.secret_key)
    except OSError as error:
        raise unusable(home.root, error) from error


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
