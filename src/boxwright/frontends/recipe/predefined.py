"""ARGs that nobody declares (the reference, "Predefined ARGs", "Automatic platform ARGs in the global scope")."""

from __future__ import annotations

from collections.abc import Mapping

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
PROXIES = frozenset(_PROXIES) | {name.upper() for name in _PROXIES}
"""Given to RUN steps beside the graph, so that no key sees them."""

PLATFORM = ("PLATFORM", "OS", "ARCH", "VARIANT")
PREDEFINED = PROXIES | {f"{side}{part}" for side in ("TARGET", "BUILD") for part in PLATFORM} | {"SOURCE_DATE_EPOCH"}

_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "armhf": "arm"}
_DEFAULT_VARIANTS = {"arm64": "v8", "arm": "v7", "amd64": "v1"}


def proxy_args(build_args: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The proxies among the build arguments: for the environment of RUN steps, outside their keys."""
    return tuple((name, value) for name, value in build_args.items() if name in PROXIES)


def split_platform(platform: str) -> tuple[str, str, str]:
    """Operating system, architecture and variant, as OCI names them; an architecture alone is Linux's."""
    parts = platform.lower().split("/")
    if len(parts) == 1:
        parts = ["linux", parts[0]] if parts[0] != "linux" else ["linux", ""]
    architecture = _ARCHITECTURES.get(parts[1], parts[1])
    variant = parts[2] if len(parts) > 2 else ""
    return parts[0], architecture, variant


def same_platform(one: str, other: str) -> bool:
    """Whether two names mean one platform."""
    return _full(one) == _full(other)


def _full(platform: str) -> tuple[str, str, str]:
    system, architecture, variant = split_platform(platform)
    return system, architecture, variant or _DEFAULT_VARIANTS.get(architecture, "")


def platform_args(platform: str) -> dict[str, str]:
    """The automatic ARGs. Here the machine that builds and the one that is built for are of one platform."""
    system, architecture, variant = split_platform(platform)
    shown = "/".join(part for part in (system, architecture, variant) if part)
    values = dict(zip(PLATFORM, (shown, system, architecture, variant), strict=True))
    return {f"{side}{part}": value for side in ("TARGET", "BUILD") for part, value in values.items()}
