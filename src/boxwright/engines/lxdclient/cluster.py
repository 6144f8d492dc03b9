"""Clusters of LXD and Incus servers: made, joined by tokens, their members looked at and emptied.

LXD's REST API, `/1.0/cluster` and `/1.0/cluster/members` (doc/rest-api.yaml).
"""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from boxwright.engines.lxdclient.client import LxdClient
from boxwright.engines.lxdclient.failures import LxdError, unreachable
from boxwright.engines.lxdclient.transport import Patience
from boxwright.errors import BoxwrightError, UsageError

POOL = "default"
DRAINING = "user.boxwright.draining"
"""A member whose instances are being taken elsewhere, in its configuration."""
_JOINING = Patience(300.0)
_READY_SECONDS = 30.0
_CERTIFICATE_SECONDS = 10
_ANSWER_SECONDS = 2


class ClusterMember(NamedTuple):
    """A server of a cluster. `state`: online, offline, evacuated, draining, or what LXD says of it."""

    name: str
    address: str
    state: str
    domain: str
    roles: tuple[str, ...]
    said: str


class Joining(NamedTuple):
    """What a token says: for which name it is, where members are, and their certificate's SHA-256."""

    name: str
    addresses: tuple[str, ...]
    fingerprint: str
    token: str


def is_clustered(client: LxdClient) -> bool:
    """Whether the server is a member of a cluster."""
    return bool((client.get("").get("environment") or {}).get("server_clustered"))


def require_cluster(client: LxdClient) -> None:
    """Raises BoxwrightError `cluster.none`."""
    if not is_clustered(client):
        hint = "'boxwright cluster init' makes one, 'boxwright cluster join' joins one"
        raise BoxwrightError("cluster.none", f"LXD at {client.endpoint.name} is no member of a cluster", hint=hint)


def _require_single(client: LxdClient) -> None:
    if is_clustered(client):
        message = f"LXD at {client.endpoint.name} is a member of a cluster already"
        raise BoxwrightError("cluster.member", message, hint="'boxwright cluster status' shows it")


def start_cluster(client: LxdClient, name: str, address: str, driver: str, offline_after: int) -> None:
    """Make the server the first member. A pool, and the default profile's root disk, are made where there are none."""
    _require_single(client)
    _listen(client, address)
    if not client.get("/storage-pools"):
        client.run("POST", "/storage-pools", {"name": POOL, "driver": driver, "config": {}})
    pool = client.get("/storage-pools", recursion="1")[0]["name"]
    profile = client.get("/profiles/default")
    if not any(it.get("path") == "/" for it in profile.get("devices", {}).values()):
        devices = {**profile.get("devices", {}), "root": {"type": "disk", "path": "/", "pool": pool}}
        client.run("PATCH", "/profiles/default", {"devices": devices})
    client.run("PUT", "/cluster", {"server_name": name, "enabled": True})
    _await_ready(client)
    client.run("PATCH", "", {"config": {"cluster.offline_threshold": str(offline_after)}})


def _listen(client: LxdClient, address: str) -> None:
    client.run("PATCH", "", {"config": {"core.https_address": address}})


def _await_ready(client: LxdClient) -> None:
    """The daemon starts its listeners anew when it becomes a member."""
    until = time.monotonic() + _READY_SECONDS
    while True:
        try:
            if is_clustered(client):
                return
        except LxdError:
            if time.monotonic() > until:
                raise
        time.sleep(0.1)


def invite(client: LxdClient, name: str) -> str:
    """A token with which one server can join under this name. Raises BoxwrightError `cluster.name-taken`."""
    require_cluster(client)
    if any(it.name == name for it in members(client)):
        raise BoxwrightError("cluster.name-taken", f"the cluster has a member {name} already")
    answer = client.request("POST", "/cluster/members", {"server_name": name})
    given = (answer.get("metadata") or {}).get("metadata") or {}
    fields = {
        "server_name": given["serverName"],
        "fingerprint": given["fingerprint"],
        "addresses": given["addresses"],
        "secret": given["secret"],
    }
    if "expiresAt" in given:
        fields["expires_at"] = given["expiresAt"]
    return base64.b64encode(json.dumps(fields).encode()).decode()


def read_token(text: str) -> Joining:
    """What a token says. Raises UsageError `cluster.token`."""
    try:
        fields = json.loads(base64.b64decode(text.strip(), validate=True))
        name, addresses, fingerprint = fields["server_name"], fields["addresses"], fields["fingerprint"]
        found = Joining(str(name), tuple(str(it) for it in addresses), str(fingerprint), text.strip())
    except (ValueError, KeyError, TypeError) as error:
        hint = "a member makes one: 'boxwright cluster invite NAME'"
        raise UsageError("cluster.token", "this is no token for joining a cluster", hint=hint) from error
    return found


def join(client: LxdClient, joining: Joining, address: str, sources: Mapping[str, str]) -> None:
    """Make the server a member; what it had would be lost, so it must have nothing. `sources`: of storage pools."""
    _require_single(client)
    if client.get("/instances") or client.get("/storage-pools"):
        message = f"LXD at {client.endpoint.name} has instances or storage pools, which joining would lose"
        raise BoxwrightError("cluster.not-empty", message, hint="remove them first: lxc list, lxc storage list")
    where, certificate = _certificate(joining)
    _listen(client, address)
    config = [{"entity": "storage-pool", "name": name, "key": "source", "value": it} for name, it in sources.items()]
    body = {
        "server_name": joining.name,
        "enabled": True,
        "cluster_address": where,
        "cluster_certificate": certificate,
        "cluster_password": joining.token,
        "server_address": address,
        "member_config": config,
    }
    client.run("PUT", "/cluster", body, patience=_JOINING)
    _await_ready(client)


def _certificate(joining: Joining) -> tuple[str, str]:
    """The first member that answers, and its certificate, which is the one that the token names."""
    said = ""
    for where in joining.addresses:
        host, _, port = where.rpartition(":")
        try:
            found = ssl.get_server_certificate((host.strip("[]"), int(port)), timeout=_CERTIFICATE_SECONDS)
        except (OSError, ValueError) as error:
            said = f"{where}: {error}"
            continue
        if hashlib.sha256(ssl.PEM_cert_to_DER_cert(found)).hexdigest() != joining.fingerprint.lower():
            message = f"{where} shows another certificate than the token names"
            raise BoxwrightError("cluster.certificate", message, hint="ask a member for a new token")
        return where, found
    raise unreachable("the cluster", said or "the token names no address")


def members(client: LxdClient) -> tuple[ClusterMember, ...]:
    """All members, by name."""
    found = client.get("/cluster/members", recursion="1")
    return tuple(sorted(_member(it) for it in found))


def _member(raw: Mapping[str, Any]) -> ClusterMember:
    state = str(raw.get("status") or "unknown").lower()
    if state == "online" and (raw.get("config") or {}).get(DRAINING) == "true":
        state = "draining"
    return ClusterMember(
        name=str(raw["server_name"]),
        address=str(raw.get("url") or "").removeprefix("https://"),
        state=state,
        domain=str(raw.get("failure_domain") or ""),
        roles=tuple(raw.get("roles") or ()),
        said=str(raw.get("message") or ""),
    )


def answers(member: ClusterMember) -> bool:
    """Whether it shows a certificate to who asks from here, whatever its heartbeats say.

    After another member has become the leader, LXD counts all as offline until their next heartbeat.
    """
    host, _, port = member.address.rpartition(":")
    try:
        ssl.get_server_certificate((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS)
    except (OSError, ValueError):
        return False
    return True


def find_member(client: LxdClient, name: str) -> ClusterMember:
    """One of them. Raises BoxwrightError `cluster.no-member`."""
    known = members(client)
    for it in known:
        if it.name == name:
            return it
    raise BoxwrightError(
        "cluster.no-member", f"the cluster has no member {name}", hint=f"there are {', '.join(it.name for it in known)}"
    )


def mark_draining(client: LxdClient, name: str, *, draining: bool) -> None:
    """Let nobody put new instances there, or let them again."""
    path = f"/cluster/members/{name}"
    found, tag = client.etag(path)
    config = {key: value for key, value in (found.get("config") or {}).items() if key != DRAINING}
    config["scheduler.instance"] = "manual" if draining else "all"
    if draining:
        config[DRAINING] = "true"
    kept: dict[str, Any] = {it: found[it] for it in ("roles", "failure_domain", "description", "groups") if it in found}
    client.run("PUT", path, {**kept, "config": config}, etag=tag)


def change_member(client: LxdClient, name: str, action: str) -> None:
    """Do `action`: evacuate or restore."""
    client.run("POST", f"/cluster/members/{name}/state", {"action": action})


def set_domain(client: LxdClient, name: str, domain: str) -> None:
    """Say which other members fail together with it (LXD's failure domains)."""
    path = f"/cluster/members/{name}"
    found, tag = client.etag(path)
    kept: dict[str, Any] = {it: found[it] for it in ("roles", "description", "groups", "config") if it in found}
    client.run("PUT", path, {**kept, "failure_domain": domain}, etag=tag)


def instances_by_member(client: LxdClient) -> dict[str, list[str]]:
    """The names of all projects' instances, for each member that has some."""
    found: dict[str, list[str]] = {}
    for it in client.get("/instances", recursion="1", **{"all-projects": "true"}):
        found.setdefault(str(it.get("location")), []).append(str(it["name"]))
    return found
