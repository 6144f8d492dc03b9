"""Instances as LXD has them: read, and the parts of a new one's configuration. Pure."""

from __future__ import annotations

import base64
import ipaddress
import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from boxwright.engines.deploy.lxdmemory import USER, InstanceNote
from boxwright.model.deployment import (
    ABSENT,
    LABEL,
    ON_FAILURE,
    ONCE,
    RUNNING,
    STOPPED,
    Instance,
    NewInstance,
    labelled_instance,
)

HOSTS = "/etc/hosts"
_HOSTS_KEY = f"{USER}boxwright.hosts"
HOSTS_TEMPLATE = f'{{{{ config_get("{_HOSTS_KEY}", "127.0.0.1 localhost") }}}}'
"""LXD writes it when an instance first starts (doc/image-handling.md): pushing a file would need a process for each."""
SCRIPT = "/.boxwright-start"
"""In an instance: its command, where that can't be said in one line."""
_NAME = re.compile(r"(.+)-([0-9]+)-g([0-9]+)")
_TELLING = "lxc.log.level = info"
"""Lets LXC write down how the first process ended (error.c), which LXD does not tell."""
_ENDED = re.compile(r"Child <[0-9]+> ended on (?:error \((?P<status>[0-9]+)\)|signal .*\((?P<signal>[0-9]+)\))")
_LAST_HOOK = re.compile(r'Executing script ".* stopns" for container')
_IDS = ("lxc.init.uid = ", "lxc.init.gid = ")


def absent_instance(raw: Mapping[str, Any], stack: str, notes: Mapping[str, InstanceNote]) -> Instance | None:
    """One whose member does not answer: its name and its member are all that LXD tells. None for one of others."""
    name = str(raw["name"])
    found = _NAME.fullmatch(name.removeprefix(f"{stack}-"))
    if found is None:
        return None
    container, number, generation = found.groups()
    addresses = notes[name].addresses if name in notes else ()
    known = Instance(name, container, int(number), int(generation), "", ABSENT, addresses=addresses)
    return known._replace(member=str(raw.get("location") or ""))


def instance_of(raw: Mapping[str, Any]) -> Instance | None:
    """An instance from LXD's answer, None for one of others."""
    config = raw.get("config") or {}
    labels = {key.removeprefix(USER): value for key, value in config.items() if key.startswith(f"{USER}{LABEL}")}
    found = labelled_instance(str(raw["name"]), labels, state_of(raw))
    if found is None:
        return None
    location = raw.get("location") or ""
    member = "" if location in ("none", "") else str(location)
    devices = (raw.get("devices") or {}).values()
    ports = [_port(it) for it in devices if it.get("type") == "proxy"] if found.state == RUNNING else []
    return found._replace(member=member, ports=tuple(ports), started=_time(str(raw.get("last_used_at") or "")))


def state_of(raw: Mapping[str, Any]) -> str:
    """LXD says Error of what is on a member that it can't ask."""
    status = raw.get("status")
    if status == "Error" and raw.get("location") not in (None, "", "none"):
        return ABSENT
    return RUNNING if status == "Running" else STOPPED


def tells_status(raw: Mapping[str, Any]) -> bool:
    """Whether it has ended, and LXC was to write down how."""
    config = raw.get("config") or {}
    return state_of(raw) == STOPPED and _TELLING in str(config.get("raw.lxc", "")).splitlines()


def exit_code_of(log: str) -> int | None:
    """The status of the program that LXC's log of its last run tells of, as a shell has it.

    None where its end was not seen: the machine went down before it.
    """
    if not _LAST_HOOK.search(log):
        return None
    found = next(_ENDED.finditer(log), None)
    if found is None:
        return 0
    return int(found["status"]) if found["status"] else 128 + int(found["signal"])


def _port(device: Mapping[str, str]) -> str:
    protocol, address, host = device["listen"].split(":")
    shown = "*" if address == "0.0.0.0" else address  # noqa: S104  how it is shown
    return f"{shown}:{host}->{device['connect'].rpartition(':')[2]}/{protocol}"


def _time(text: str) -> float:
    try:
        return datetime.fromisoformat(text[:19] + "+00:00").timestamp()
    except ValueError:
        return 0.0


def start_script(argv: Sequence[str]) -> bytes:
    """What starts the command where LXC can't; empty where it can: LXC splits its one line at white space."""
    if not any(not word or word.split() != [word] for word in argv):
        return b""
    return f"#!/bin/sh\nexec {shlex.join(argv)}\n".encode("utf-8", "surrogateescape")


def config_of(new: NewInstance, closed: Sequence[str], ids: tuple[int, int] | None) -> dict[str, str]:
    """Labels, environment, and the first process with its addresses. `closed` are subnets of others."""
    spec = new.spec
    subnets = dict(new.subnets)
    lines = [
        f"lxc.init.cmd = {SCRIPT if start_script(spec.argv) else ' '.join(spec.argv)}",
        f"lxc.init.cwd = {spec.directory or '/'}",
        f"lxc.uts.name = {spec.logical}",
        f"lxc.signal.halt = {spec.stop_signal or 'SIGTERM'}",
    ]
    if spec.restart in (ONCE, ON_FAILURE):
        lines.append(_TELLING)
    if ids is not None:
        lines += [f"{key}{number}" for key, number in zip(_IDS, ids, strict=True)]
    for number, (network, address) in enumerate(new.addresses):
        subnet = ipaddress.IPv4Network(subnets[network])
        lines.append(f"lxc.net.{number}.ipv4.address = {address}/{subnet.prefixlen}")
        if number == 0:
            lines.append(f"lxc.net.0.ipv4.gateway = {subnet[1]}")
    lines += _hooks(new.rules, closed)
    if not spec.uplink:
        lines.append("lxc.cap.drop = net_admin")  # as on other engines; else it could change what the hooks made
    config = {f"{USER}{key}": value for key, value in new.labels}
    config |= {f"environment.{key}": value for key, value in new.env}
    return {**config, _HOSTS_KEY: new.hosts, "raw.lxc": "\n".join(lines), "boot.autostart": "false"}


def _hooks(rules: str, closed: Sequence[str]) -> list[str]:
    """Routes that lead nowhere, and rules for nft: made on its member just before its first process begins.

    Where one of them fails the instance does not start (lxc.container.conf(5), `lxc.hook.start-host`).
    """
    routes = "".join(f"route add prohibit {it}\n" for it in closed)
    return [_hook("ip -batch -", routes), *([_hook("nft -f -", rules)] if rules else [])]


def _hook(program: str, text: str) -> str:
    encoded = base64.b64encode(text.encode()).decode()
    script = f'echo "$0" | base64 -d | nsenter -t "$LXC_PID" -n {program}'
    return f"lxc.hook.start-host = sh -c '{script}' {encoded}"


def parents(path: str) -> list[str]:
    """The directories above a path, the outermost first."""
    parts = path.strip("/").split("/")[:-1]
    return ["/" + "/".join(parts[: number + 1]) for number in range(len(parts))]
