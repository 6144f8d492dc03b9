"""An image's configuration as JSON (OCI image-spec, config.md, with the fields that Docker adds)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from boxwright.model.digest import Digest
from boxwright.model.image import Healthcheck, Image, ImageConfig, Port

PORTS_LABEL = "dev.boxwright.ports"
"""What PORT said, so that an image knows it when it is imported again: ``8080:80/tcp,53/udp``."""

IDENTITY_ANNOTATION = "dev.boxwright.identity"


def canonical_json(value: object) -> bytes:
    """One way to write a value: keys sorted, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogateescape")


def rfc3339(seconds: int) -> str:
    """A time as OCI writes it (RFC 3339, 5.6)."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def ports_text(ports: Iterable[Port]) -> str:
    """The value of PORTS_LABEL."""
    return ",".join(f"{port.host}:{_port(port)}" if port.host else _port(port) for port in ports)


def _port(port: Port) -> str:
    return f"{port.container}/{port.protocol}"


def labels_of(config: ImageConfig) -> dict[str, str]:
    """The labels that are written: the image's own, and PORT."""
    labels = dict(config.labels)
    if config.published:
        labels[PORTS_LABEL] = ports_text(config.published)
    return labels


class Step(NamedTuple):
    """One entry of the history: `diff_id` is its layer's digest before compression, None where it has none."""

    created_by: str
    diff_id: Digest | None


def image_config(image: Image, steps: Sequence[Step]) -> bytes:
    """The configuration of `image`, whose layers and history are `steps`."""
    config = image.config
    created = rfc3339(image.created)
    value: dict[str, object] = {
        "architecture": config.architecture,
        "config": _execution(config),
        "created": created,
        "history": [
            {"created": created, "created_by": step.created_by} | ({} if step.diff_id else {"empty_layer": True})
            for step in steps
        ],
        "os": config.os,
        "rootfs": {"diff_ids": [step.diff_id for step in steps if step.diff_id], "type": "layers"},
    }
    return canonical_json(value | _given({"author": config.author, "variant": config.variant}))


def _execution(config: ImageConfig) -> dict[str, object]:
    exposed: dict[str, object] = {_port(port): {} for port in (*config.exposed, *config.published)}
    return _given(
        {
            "Env": [f"{name}={value}" for name, value in config.env],
            "Cmd": None if config.cmd is None else list(config.cmd),
            "Entrypoint": None if config.entrypoint is None else list(config.entrypoint),
            "ExposedPorts": exposed,
            "Volumes": {path: {} for path in config.volumes},
            "WorkingDir": config.workdir,
            "User": config.user,
            "Labels": labels_of(config),
            "StopSignal": config.stop_signal,
            "Healthcheck": _healthcheck(config.healthcheck) if config.healthcheck else None,
            "Shell": None if config.shell is None else list(config.shell),
            "OnBuild": list(config.onbuild),
            "ArgsEscaped": config.args_escaped,
        },
        keep=("Cmd", "Entrypoint"),
    )


def _healthcheck(check: Healthcheck) -> dict[str, object]:
    return _given(
        {
            "Test": list(check.test),
            "Interval": check.interval,
            "Timeout": check.timeout,
            "StartPeriod": check.start_period,
            "StartInterval": check.start_interval,
            "Retries": check.retries,
        }
    )


def _given(fields: Mapping[str, object], keep: tuple[str, ...] = ()) -> dict[str, object]:
    """The fields that say something; of those in `keep`, an empty list does."""
    return {name: value for name, value in fields.items() if value or (name in keep and value is not None)}
