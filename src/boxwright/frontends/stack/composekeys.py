"""Which keys a Compose file may have, and how its values are read (Compose specification)."""

from __future__ import annotations

import re
from collections.abc import Mapping as Map
from typing import Any, TypeVar

from boxwright.frontends.package.convert import BOOLEANS
from boxwright.frontends.package.document import Mapping, Scalar, Sequence, Value, is_nothing
from boxwright.frontends.stack.problem import wrong

T = TypeVar("T", Mapping, Sequence, Scalar)

TOP_KEYS = frozenset(("version", "name", "services", "networks", "volumes", "secrets", "configs"))
SERVICE_KEYS = frozenset(
    (
        "build", "command", "configs", "depends_on", "deploy", "entrypoint", "env_file", "environment", "expose",
        "healthcheck", "image", "links", "network_mode", "networks", "ports", "profiles", "restart", "scale",
        "secrets", "stop_grace_period", "user", "volumes", "working_dir",
    )
)  # fmt: skip
LEFT_OUT = frozenset(
    (
        "annotations", "attach", "blkio_config", "cap_add", "cap_drop", "cgroup", "cgroup_parent", "container_name",
        "cpu_count", "cpu_percent", "cpu_period", "cpu_quota", "cpu_rt_period", "cpu_rt_runtime", "cpu_shares", "cpus",
        "cpuset", "credential_spec", "develop", "device_cgroup_rules", "devices", "dns", "dns_opt", "dns_search",
        "domainname", "extends", "external_links", "extra_hosts", "gpus", "group_add", "hostname", "init", "ipc",
        "isolation", "label_file", "labels", "logging", "mac_address", "mem_limit", "mem_reservation",
        "mem_swappiness", "memswap_limit", "oom_kill_disable", "oom_score_adj", "pid", "pids_limit", "platform",
        "post_start", "pre_stop", "privileged", "provider", "pull_policy", "read_only", "runtime", "security_opt",
        "shm_size", "stdin_open", "stop_signal", "storage_opt", "sysctls", "tmpfs", "tty", "ulimits", "userns_mode",
        "uts", "volumes_from",
    )
)  # fmt: skip
_SHAPES: dict[type, str] = {Mapping: "a mapping", Sequence: "a list", Scalar: "text"}


def of_type(value: Value, kind: type[T]) -> T:
    """`value`, where it is of this kind. Raises `stack.type`."""
    if not isinstance(value, kind):
        raise wrong("type", f"{_SHAPES[kind]} is expected here, not {_SHAPES[type(value)]}", value.place.span)
    return value


def mapping(value: Mapping, key: str) -> Mapping:
    """The mapping of a key; an empty one where there is none."""
    found = value.items.get(key)
    if found is None or is_nothing(found):
        return Mapping({}, value.place, {})
    return of_type(found, Mapping)


def text_of(value: Mapping, key: str) -> str:
    """The text of a key, empty where there is none."""
    found = value.items.get(key)
    return "" if found is None or is_nothing(found) else of_type(found, Scalar).text


def texts(value: Mapping, key: str) -> tuple[str, ...]:
    """The texts of a key: one, or a list of them."""
    found = value.items.get(key)
    if found is None or is_nothing(found):
        return ()
    if isinstance(found, Scalar):
        return (found.text,)
    items = of_type(found, Sequence).items
    return tuple(text_of(it, "path") if isinstance(it, Mapping) else of_type(it, Scalar).text for it in items)


def number(value: Mapping, key: str, default: int) -> int:
    """The whole number of a key."""
    text = text_of(value, key)
    if not text:
        return default
    if not re.fullmatch(r"\d{1,9}", text):
        raise wrong("type", f"{text!r} is not a whole number", value.items[key].place.span)
    return int(text)


def flag(value: Mapping, key: str, *, default: bool) -> bool:
    """The boolean of a key."""
    text = text_of(value, key)
    if text and text.lower() not in BOOLEANS:
        raise wrong("type", f"{text!r} is neither true nor false", value.items[key].place.span)
    return BOOLEANS[text.lower()] if text else default


def pairs(value: Mapping, key: str, variables: Map[str, str]) -> dict[str, Any]:
    """Variables as a mapping or as a list of ``NAME=VALUE``; a name alone takes its value from `variables`, or None."""
    found = value.items.get(key)
    if found is None or is_nothing(found):
        return {}
    if isinstance(found, Mapping):
        return {
            name: variables.get(name) if is_nothing(item) else of_type(item, Scalar).text
            for name, item in found.items.items()
        }
    result: dict[str, Any] = {}
    for item in of_type(found, Sequence).items:
        name, equals, text = of_type(item, Scalar).text.partition("=")
        result[name] = text if equals else variables.get(name)
    return result
