"""HAProxy's configuration from the instances that are well (HAProxy 2.6, configuration manual). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from boxwright.model.deployment import UPLINK, Backend

CONFIGURATION = "/etc/haproxy/boxwright.cfg"
MOVING = "/etc/keepalived/boxwright.conf"
TOOL = "/usr/local/lib/boxwright/balance"
CERTIFICATE = "certificate:"
"""The beginning of the reference to a backend's certificate, which may change while its balancer runs."""
_HEAD = """\
# Written by boxwright from the instances that are there; it is written again when one comes or goes.
global
    log stdout format raw local0 notice
    hard-stop-after {drain}s
defaults
    log global
    retries 3
    option redispatch 1
    timeout connect 3s
    timeout client 60s
    timeout server 60s
    timeout queue 10s
    timeout http-keep-alive 10s
"""


def haproxy_text(backends: Iterable[Backend], addresses: Mapping[str, Iterable[tuple[str, str]]]) -> str:
    """The configuration. `addresses`: for each container the names of its instances and where they are."""
    listed = list(backends)
    longest = max((backend.drain for backend in listed), default=30.0)
    parts = [_HEAD.format(drain=max(1, int(longest)))]
    parts += [_section(backend, addresses.get(backend.container, ())) for backend in listed]
    return "\n".join(parts)


def _section(backend: Backend, instances: Iterable[tuple[str, str]]) -> str:
    tls = f" ssl crt {certificate_path(backend)} alpn h2,http/1.1" if backend.certificate else ""
    lines = [
        f"listen {backend.container}",
        f"    bind :{backend.listen}{tls}",
        f"    mode {backend.mode}",
        f"    balance {backend.algorithm}",
    ]
    if backend.mode == "http":
        lines += [
            "    option forwardfor",
            "    option http-server-close",
            "    retry-on conn-failure empty-response",
            "    http-request disable-l7-retry unless METH_GET",
        ]
        if backend.health.kind == "http":
            lines.append(f"    option httpchk GET {backend.health.path}")
    elsewhere = backend.health.kind in ("http", "tcp") and backend.health.port not in (0, backend.port)
    check = f"check port {backend.health.port}" if elsewhere else "check"
    weights = dict(backend.weights)
    for name, address in instances:
        weight = f" weight {weights[name]}" if name in weights else ""
        lines.append(f"    server {name} {address}:{backend.port} {check} inter 1s fall 2 rise 1{weight}")
    return "\n".join(lines) + "\n"


def keepalived_text(backends: Iterable[Backend], number: int, peers: Iterable[str]) -> str:
    """For keepalived.conf(5): the balancers agree over the stack's own network (VRRP, RFC 9568) who has the addresses.

    Nothing moves while the one that has them is well. They speak to each other one by one: what is sent to a group
    leaves the subnet, and is masqueraded where a bridge's packets pass the filters for what is routed.
    """
    addresses = dict.fromkeys(it.address for it in backends if it.address)
    lines = ["# Written by boxwright.", "global_defs {", "    vrrp_version 3", "}"]
    lines += ["vrrp_instance boxwright {", "    state BACKUP", "    nopreempt"]
    lines += ["    interface eth0", "    virtual_router_id 77", f"    priority {max(1, 250 - number)}"]
    lines += ["    advert_int 0.5", "    garp_master_refresh 10", "    virtual_ipaddress {"]
    lines += [f"        {address} dev {UPLINK}" for address in addresses]
    lines += ["    }", "    unicast_peer {", *(f"        {it}" for it in peers), "    }", "}"]
    return "\n".join(lines) + "\n"


def certificate_path(backend: Backend) -> str:
    """Where the certificate of a backend lies in the balancer."""
    return f"/etc/haproxy/certificates/{backend.container}.pem"
