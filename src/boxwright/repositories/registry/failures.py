"""What registries answer when they refuse, in words (OCI distribution-spec, "Error Codes")."""

from __future__ import annotations

import json

from boxwright.errors import FetchError

_SAID_MOST = 300
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TOO_LARGE, _TOO_MANY, _NO_STORAGE = 401, 403, 404, 413, 429, 507
_SERVER = 500


class RegistryError(FetchError):
    """A registry's refusal: `status` is HTTP's, 0 where no answer came; `codes` are the registry's own words."""

    def __init__(
        self, code: str, message: str, *, hint: str = "", status: int = 0, codes: tuple[str, ...] = ()
    ) -> None:
        super().__init__(code, message, hint=hint)
        self.status = status
        self.codes = codes


def refusal(what: str, host: str, status: int, body: bytes) -> RegistryError:
    """The error for an answer; `what` could not be done, as in "NAME could not be pushed"."""
    codes, said = _said(body)
    shown = f"{what}: {host} answers {status}" + (f" ({said})" if said else "")
    if status == _NO_STORAGE or "no space left" in said.lower():
        hint = "make room there; nothing of what was there is damaged"
        return RegistryError("registry.no-space", f"{what}: no space is left on {host}", hint=hint, status=status)
    code, hint = "registry.refused", ""
    if status == _UNAUTHORIZED:
        code, hint = "registry.unauthorized", f"is the name right? Else: boxwright login {host}"
    elif status == _FORBIDDEN:
        code, hint = "registry.denied", f"this user may not do it; another one: boxwright login {host}"
    elif status == _NOT_FOUND:
        code, hint = "registry.not-found", "are its name and its tag right?"
    elif status == _TOO_LARGE:
        code, hint = "registry.too-large", "the registry, or a proxy before it, has a limit of size: use more layers"
    elif status == _TOO_MANY:
        code, hint = "registry.too-many-requests", "wait, or log in: registries give more to those they know"
    elif status >= _SERVER:
        code, hint = "registry.server-error", "try again later; --retry N tries more often"
    return RegistryError(code, shown, hint=hint, status=status, codes=codes)


def unreachable(what: str, host: str, reason: str) -> RegistryError:
    """No connection, or none that lasted."""
    hint = "can this machine reach the registry? Plain HTTP away from loopback needs --insecure"
    return RegistryError("registry.unreachable", f"{what}: {host}: {reason}", hint=hint)


def wrong_content(what: str, digest: str) -> RegistryError:
    """What came is not what was asked for."""
    hint = "the registry, or something on the way, is broken or lies: ask whoever runs it"
    return RegistryError("registry.digest", f"{what}: what came is not {digest}", hint=hint)


def malformed(what: str, host: str, why: str) -> RegistryError:
    """An answer that makes no sense."""
    return RegistryError("registry.bad-answer", f"{what}: {host}: {why}", hint="is this an OCI registry?")


def _said(body: bytes) -> tuple[tuple[str, ...], str]:
    """The codes and the messages of an error's body, which may be anything."""
    try:
        errors = json.loads(body)["errors"]
        codes = tuple(str(item.get("code", "")) for item in errors)
        texts = [f"{item.get('message') or item.get('code')} {_detail(item.get('detail'))}".strip() for item in errors]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return (), _printable(body.decode("utf-8", "replace"))
    return codes, _printable("; ".join(texts))


def _detail(detail: object) -> str:
    return "" if detail in (None, "", {}, []) else json.dumps(detail)


def _printable(text: str) -> str:
    text = " ".join(text.split())[:_SAID_MOST]
    return "".join(character if character.isprintable() else "?" for character in text)
