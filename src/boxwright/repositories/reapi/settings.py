"""What a configuration says about a Remote Execution API server."""

from __future__ import annotations

from typing import NamedTuple

from boxwright.errors import FetchError


class RemoteError(FetchError):
    """A server can't be used: `gone` where it would be no use to ask it again in this build."""

    def __init__(self, code: str, message: str, *, gone: bool = True, hint: str = "") -> None:
        super().__init__(code, message, hint=hint)
        self.gone = gone


class Tls(NamedTuple):
    """Paths of PEM files: the authorities to trust (empty: the system's), and this side's certificate and key."""

    ca: str = ""
    certificate: str = ""
    key: str = ""


class Settings(NamedTuple):
    """One entry ``type: reapi``. Addresses are ``grpc://HOST:PORT`` or ``grpcs://HOST:PORT``.

    `execution` names nodes that share the CAS; without one the server is a cache alone. `properties` are the
    platform's. `jobs` is how many actions are under way there at once. `time_limit` is that of a call in seconds;
    `action_limit` that of an action, from when it was handed over. With `push` what was built here is stored there.
    `read_only` marks everything but the work directory as such, for servers that know the property.
    """

    name: str
    cas: str
    action_cache: str
    execution: tuple[str, ...] = ()
    instance: str = ""
    tls: Tls = Tls()
    token: str = ""
    properties: tuple[tuple[str, str], ...] = ()
    jobs: int = 100
    time_limit: float = 20.0
    action_limit: float = 6 * 3600.0
    push: bool = True
    read_only: bool = True


class Blob(NamedTuple):
    """A digest as the protocol has it: the SHA-256 in hexadecimal, and the size in bytes."""

    hash: str
    size: int


EMPTY = Blob("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 0)
"""Every server has it (remote_execution.proto, ContentAddressableStorage)."""
