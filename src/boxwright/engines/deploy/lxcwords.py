"""Commands as LXC's configuration takes them (lxc.container.conf(5), `lxc.init.cmd`)."""

from __future__ import annotations

from collections.abc import Sequence

from boxwright.errors import BoxwrightError


def quoted_command(argv: Sequence[str]) -> str:
    """A command as one line: LXC splits it at spaces outside of quotes, and knows no escapes.

    Raises BoxwrightError `deploy.engine-lacks` for a word that can't be said so.
    """
    return " ".join(_quoted(word) for word in argv)


def _quoted(word: str) -> str:
    if "\n" in word or ("'" in word and '"' in word):
        message = f"LXC can't be told the word {word!r} of a command"
        raise BoxwrightError("deploy.engine-lacks", message, hint="put the command into a script of the image")
    if word and not any(mark in word for mark in " \t'\""):
        return word
    return f"'{word}'" if "'" not in word else f'"{word}"'
