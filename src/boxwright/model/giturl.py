"""Which names mean a git repository, as BuildKit reads them.

The Dockerfile reference, "Adding files from a Git repository"; docker build, "Git repositories".
"""

from __future__ import annotations

import re
from typing import NamedTuple

_SCP = re.compile(r"[\w][\w.-]*@([\w][\w.-]*):([^#]+)", re.ASCII)
_URL = re.compile(r"(https?|ssh|git)://([^/?#]+)(/[^?#]*)?(?:\?([^#]*))?", re.IGNORECASE)
_QUERY = {"ref": "ref", "branch": "ref", "tag": "ref", "commit": "ref", "checksum": "ref", "subdir": "subdir"}


class GitUrl(NamedTuple):
    """`remote` is what git is given; `ref` a branch, tag or commit, empty for the default branch.

    `subdirectory` is the part that is wanted. `bare` names (``github.com/...``) may as well be paths.
    """

    remote: str
    ref: str = ""
    subdirectory: str = ""
    bare: bool = False


def parse_git_url(text: str) -> GitUrl | None:
    """The repository that `text` names, None where it names none.

    ``git://``, ``ssh://`` and ``USER@HOST:PATH`` always do, ``http(s)://`` where the path ends in ``.git``, and
    ``github.com/...`` where it is no file (`GitUrl.bare`). ``#REF:SUBDIRECTORY`` may follow.
    """
    bare = text.startswith("github.com/")
    place, _, fragment = (f"https://{text}" if bare else text).partition("#")
    ref, _, subdirectory = fragment.partition(":")
    match = _URL.fullmatch(place)
    if match is None:
        scp = _SCP.fullmatch(place)
        return GitUrl(place, ref, subdirectory) if scp and "://" not in place else None
    path = match[3] or ""
    if match[1].lower().startswith("http") and not path.endswith(".git") and not bare:
        return None
    if len(path) < 2:
        return None
    remote = place.partition("?")[0]
    if match[4]:
        asked = _asked(match[4])
        if asked is None:
            return None
        ref, subdirectory = asked.get("ref", ref), asked.get("subdir", subdirectory)
    return GitUrl(remote, ref, subdirectory, bare)


def _asked(query: str) -> dict[str, str] | None:
    """``ref=...&subdir=...`` in place of the fragment; None where it asks for something else."""
    pairs = [item.partition("=") for item in query.split("&")]
    if not all(name in _QUERY and equals for name, equals, _ in pairs):
        return None
    return {_QUERY[name]: value for name, _, value in pairs}


def without_password(url: str) -> str:
    """`url` with its user's name and no password; what stands alone before ``@`` may be a token, and goes over HTTP.

    So of all addresses in a text.
    """
    plain = re.sub(r"(https?://)[^/?#\s]*@", r"\1", url, flags=re.IGNORECASE)
    return re.sub(r"(://[^/@:\s]*):[^/?#\s]*@", r"\1@", plain)


def redacted(text: str) -> str:
    """`text` for people to read: without the passwords and tokens of the addresses in it."""
    return re.sub(r"(https?://|://[^/@:\s]*:)[^/\s]*@", r"\1***@", text, flags=re.IGNORECASE)
