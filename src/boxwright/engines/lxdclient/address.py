"""Where LXD servers are: the local socket, addresses, and the remotes of the `lxc` and `incus` clients."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from boxwright.errors import UsageError

PORT = 8443
_SOCKETS = ("/var/lib/lxd/unix.socket", "/var/snap/lxd/common/lxd/unix.socket", "/var/lib/incus/unix.socket")


class Endpoint(NamedTuple):
    """A server: a unix `socket`, or `host` and `port` by TLS.

    `certificate` and `key` are the files by which it knows this client. `server_certificate` is the file with the one
    certificate that it must show; where there is none, a public authority must vouch for it. `name` is shown to people.
    """

    name: str
    socket: str = ""
    host: str = ""
    port: int = PORT
    certificate: str = ""
    key: str = ""
    server_certificate: str = ""
    project: str = ""


def find_endpoint(text: str, environment: Mapping[str, str]) -> Endpoint:
    """What `text` means: ``""`` and ``local``, ``unix:PATH``, ``https://HOST[:PORT]``, or a remote's name.

    Raises UsageError `lxd.remote`.
    """
    if not text or text in ("local", "unix:"):
        return _local(environment)
    if text.startswith(("unix:", "/")):
        path = text.removeprefix("unix://").removeprefix("unix:")
        return Endpoint(f"unix:{path}", socket=path)
    directory = _configuration(environment)
    if text.startswith("https://"):
        return _distant(text, text, directory, servers_name=urlsplit(text).hostname or "")
    remote = _remotes(directory).get(text)
    address = str(remote.get("addr", "")) if isinstance(remote, dict) else ""
    if not isinstance(remote, dict) or not address:
        hint = f"'lxc remote list' shows those that there are ({directory}/config.yml)"
        raise UsageError("lxd.remote", f"there is no LXD remote {text!r}", hint=hint)
    if remote.get("protocol", "lxd") not in ("lxd", "incus"):
        raise UsageError("lxd.remote", f"the remote {text!r} is a server of images, it runs nothing")
    project = str(remote.get("project") or "")
    if address.startswith("unix:"):
        path = address.removeprefix("unix://").removeprefix("unix:")
        found = Endpoint(text, socket=path) if path else _local(environment)
        return found._replace(name=text, project=project)
    return _distant(text, address, directory, servers_name=text)._replace(project=project)


def _local(environment: Mapping[str, str]) -> Endpoint:
    given = environment.get("LXD_SOCKET") or environment.get("INCUS_SOCKET")
    directory = environment.get("LXD_DIR") or environment.get("INCUS_DIR")
    if not given and directory:
        given = f"{directory}/unix.socket"
    path = given or next((path for path in _SOCKETS if os.path.exists(path)), _SOCKETS[0])
    return Endpoint("local", socket=path)


def _configuration(environment: Mapping[str, str]) -> str:
    """The directory in which the client keeps its certificate and its remotes."""
    home = environment.get("HOME", "")
    own = environment.get("XDG_CONFIG_HOME") or f"{home}/.config"
    given = environment.get("LXD_CONF") or environment.get("INCUS_CONF")
    places = (f"{own}/lxc", f"{home}/snap/lxd/common/config", f"{own}/incus")
    return given or next((path for path in places if os.path.isfile(f"{path}/config.yml")), places[0])


def _remotes(directory: str) -> dict[str, Any]:
    import yaml

    path = f"{directory}/config.yml"
    try:
        with open(path, "rb") as file:
            content = yaml.safe_load(file)
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError("lxd.remote", f"{path} can't be read: {error}") from error
    remotes = content.get("remotes") if isinstance(content, dict) else None
    return remotes if isinstance(remotes, dict) else {}


def _distant(name: str, address: str, directory: str, *, servers_name: str) -> Endpoint:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or PORT
    except ValueError:
        host, port = None, 0
    if not host or not address.startswith("https://"):
        raise UsageError("lxd.remote", f"{address} is no address of an LXD server", hint="https://HOST:8443")
    pinned = f"{directory}/servercerts/{servers_name}.crt"
    return Endpoint(
        name,
        host=host,
        port=port,
        certificate=f"{directory}/client.crt",
        key=f"{directory}/client.key",
        server_certificate=pinned if os.path.isfile(pinned) else "",
    )
