"""What an LXD server refuses, in words."""

from __future__ import annotations

from boxwright.errors import BoxwrightError, MachineError

_SAID_MOST = 500


class LxdError(BoxwrightError):
    """A server's refusal: `status` is HTTP's, or that of an operation; 0 where there was no answer.

    Codes: `lxd.refused`, `lxd.denied`, `lxd.not-found`, `lxd.exists`, `lxd.changed` (the ETag), `lxd.unavailable`,
    `lxd.timeout`, `lxd.broken` (the connection), `lxd.bad-answer`, `lxd.no-space`.
    """

    def __init__(self, code: str, message: str, *, hint: str = "", status: int = 0) -> None:
        super().__init__(code, message, hint=hint)
        self.status = status


class LxdUnreachableError(LxdError, MachineError):
    """No connection: `lxd.unreachable`, or `lxd.certificate` where the server is another one than it should be."""

    exit_status = MachineError.exit_status


def refusal(what: str, server: str, status: int, said: str) -> LxdError:
    """The error for an answer, or for the end of an operation; `what` could not be done."""
    text = " ".join(said.split())[:_SAID_MOST]
    shown = f"{what}: {server} says: {text}" if text else f"{what}: {server} answers {status}"
    code, hint = _meaning(status, text.lower())
    return LxdError(code, shown, hint=hint, status=status)


_MEANINGS: tuple[tuple[frozenset[int], tuple[str, ...], str, str], ...] = (
    # LXD gives many refusals status 400 or 500: only their text tells more.
    (frozenset({507}), ("no space left", "quota exceeded"), "lxd.no-space", "make room in the storage pool"),
    (frozenset({409}), ("already exists",), "lxd.exists", ""),
    (frozenset({404}), ("not found",), "lxd.not-found", ""),
    (frozenset({403}), (), "lxd.denied", "does it trust this user's certificate? lxc config trust add"),
    (frozenset({412}), (), "lxd.changed", "somebody else changed it meanwhile: try again"),
    (frozenset({503}), (), "lxd.unavailable", "the server starts or stops: try again"),
)


def _meaning(status: int, text: str) -> tuple[str, str]:
    for statuses, words, code, hint in _MEANINGS:
        if status in statuses or any(word in text for word in words):
            return code, hint
    return "lxd.refused", ""


def unreachable(server: str, reason: str, hint: str = "") -> LxdUnreachableError:
    """No connection could be made."""
    hint = hint or "does the daemon run, and may this user speak to it?"
    return LxdUnreachableError("lxd.unreachable", f"LXD at {server}: {reason}", hint=hint)


def wrong_certificate(server: str, reason: str, hint: str = "") -> LxdUnreachableError:
    """TLS failed: another server than the one that is known, or no certificate to show."""
    hint = hint or "is it the right server? Then: lxc remote remove and lxc remote add"
    return LxdUnreachableError("lxd.certificate", f"LXD at {server}: {reason}", hint=hint)


def broken(what: str, server: str, reason: str) -> LxdError:
    """The connection ended before the answer: whether it was done is not known."""
    return LxdError("lxd.broken", f"{what}: {server}: {reason}", hint="does the daemon still run?")


def malformed(what: str, server: str, why: str) -> LxdError:
    """An answer that makes no sense."""
    return LxdError("lxd.bad-answer", f"{what}: {server}: {why}", hint="is this an LXD or Incus server?")


def timed_out(what: str, server: str, seconds: float) -> LxdError:
    """Not done in time."""
    return LxdError("lxd.timeout", f"{what}: {server} is not done after {seconds:g} s")
