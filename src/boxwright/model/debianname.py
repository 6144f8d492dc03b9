"""Names and versions of packages of Debian and its like (deb-control(5), deb-version(7)).

They become words of command lines of apt's: nothing that could be an option there is a name.
"""

from __future__ import annotations

NAME = r"[a-z0-9][a-z0-9+.-]*(:[a-z0-9-]+)?"
"""Also with an architecture."""

VERSION = r"[A-Za-z0-9][A-Za-z0-9.+:~-]*"


def is_package(name: str, version: str = "") -> bool:
    """Whether a package can be called that; without a version it is any."""
    import re

    return re.fullmatch(NAME, name) is not None and (not version or re.fullmatch(VERSION, version) is not None)
