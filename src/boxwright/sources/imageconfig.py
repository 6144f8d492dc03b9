"""An image's configuration from its JSON (OCI image-spec, config.md; Docker's image specification v1.2)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from boxwright.errors import FetchError
from boxwright.model.image import Healthcheck, ImageConfig, Port

PORTS_LABEL = "dev.boxwright.ports"
_EXPOSED = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?")
_PUBLISHED = re.compile(r"(?:(\d{1,5}):)?(\d{1,5})(?:/(tcp|udp))?")

Json = Mapping[str, Any]


def bad(what: str) -> FetchError:
    """The error for an image that is not what the specification says."""
    return FetchError("oci.bad-image", f"the image is not well formed: {what}", hint="write or fetch it again")


def json_object(data: bytes, what: str) -> Json:
    """A JSON object."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise bad(f"{what} is no JSON") from error
    if not isinstance(value, dict):
        raise bad(f"{what} is no object")
    return value


def text(value: Json, key: str) -> str:
    """A string; empty where it is not given."""
    found = value.get(key)
    if found is not None and not isinstance(found, str):
        raise bad(f"{key} is no string")
    return found or ""


def nested(value: Json, key: str) -> Json:
    """An object; empty where it is not given."""
    found = value.get(key)
    if found is not None and not isinstance(found, dict):
        raise bad(f"{key} is no object")
    return found or {}


def objects(value: Json, key: str) -> list[Json]:
    """A list of objects; empty where it is not given."""
    found = value.get(key)
    if found is not None and not (isinstance(found, list) and all(isinstance(item, dict) for item in found)):
        raise bad(f"{key} is no list of objects")
    return found or []


def strings(value: Json, key: str) -> tuple[str, ...] | None:
    """A list of strings, None where it is not given."""
    found = value.get(key)
    if found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise bad(f"{key} is no list of strings")
    return tuple(found)


def whole(value: Json, key: str) -> int:
    """A whole number that is not negative, 0 where it is not given."""
    found = value.get(key, 0)
    if found is None:
        return 0
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise bad(f"{key} is no number")
    return found


def parse_config(data: bytes, annotations: Mapping[str, str] | None = None) -> ImageConfig:
    """The configuration in the bytes of an image's config blob. PORT comes from `annotations` or a label of ours."""
    document = json_object(data, "its configuration")
    config = nested(document, "config")
    labels = {key: text(nested(config, "Labels"), key) for key in nested(config, "Labels")}
    published = (annotations or {}).get(PORTS_LABEL, labels.pop(PORTS_LABEL, ""))
    labels.pop(PORTS_LABEL, None)
    return ImageConfig(
        architecture=text(document, "architecture"),
        os=text(document, "os") or "linux",
        variant=text(document, "variant"),
        author=text(document, "author"),
        env=tuple(_variable(item) for item in strings(config, "Env") or ()),
        entrypoint=strings(config, "Entrypoint"),
        cmd=strings(config, "Cmd"),
        workdir=text(config, "WorkingDir"),
        user=text(config, "User"),
        exposed=tuple(port for name in sorted(nested(config, "ExposedPorts")) for port in _exposed(name)),
        published=tuple(_published(name) for name in published.replace(",", " ").split()),
        volumes=tuple(sorted(nested(config, "Volumes"))),
        labels=tuple(sorted(labels.items())),
        stop_signal=text(config, "StopSignal"),
        healthcheck=_healthcheck(nested(config, "Healthcheck")),
        shell=strings(config, "Shell"),
        onbuild=strings(config, "OnBuild") or (),
        args_escaped=config.get("ArgsEscaped") is True,
    )


def _variable(item: str) -> tuple[str, str]:
    name, _, value = item.partition("=")
    return name, value


def _exposed(name: str) -> list[Port]:
    found = _EXPOSED.fullmatch(name)
    if not found or not 0 < int(found[1]) <= int(found[2] or found[1]) <= 65535:
        raise bad(f"ExposedPorts has {name!r}")
    return [Port(number, found[3] or "tcp") for number in range(int(found[1]), int(found[2] or found[1]) + 1)]


def _published(name: str) -> Port:
    found = _PUBLISHED.fullmatch(name)
    if not found or not 0 < int(found[2]) <= 65535 or int(found[1] or 0) > 65535:
        raise bad(f"{PORTS_LABEL} has {name!r}")
    return Port(int(found[2]), found[3] or "tcp", int(found[1] or 0))


def _healthcheck(value: Json) -> Healthcheck | None:
    test = strings(value, "Test")
    if not test:
        return None
    return Healthcheck(
        test,
        whole(value, "Interval"),
        whole(value, "Timeout"),
        whole(value, "StartPeriod"),
        whole(value, "StartInterval"),
        whole(value, "Retries"),
    )
