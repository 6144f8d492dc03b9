"""Which versions upstream offers: names on a page, or tags of a repository (as Debian's uscan looks for them)."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable
from typing import NamedTuple

from boxwright.errors import FetchError
from boxwright.model.giturl import redacted
from boxwright.sources.fetch import SCHEMES, fetching, opened

VERSION = r"(\d[A-Za-z0-9.+~_]*(?:-[A-Za-z0-9.+~_]+)*?)"
"""What `{version}` stands for in a pattern."""

LARGEST_PAGE = 16 << 20
_UNFINISHED = re.compile(r"(?i)(rc|alpha|beta|pre|dev|snapshot|nightly|[0-9][ab][0-9])")
_LINK = re.compile(r"""href\s*=\s*["']?([^"' >]+)""", re.IGNORECASE)
_FORGE = re.compile(r"(https?://[^/]+/[^/]+/[^/]+?)(?:\.git)?/(?:-/)?(?:archive|releases/download)/.*")


class Watch(NamedTuple):
    """Where versions are listed: a page (`url`) or a repository (`git`), and the pattern whose group is a version."""

    url: str = ""
    git: str = ""
    pattern: str = ""


def watch_for(url: str, version: str) -> Watch | None:
    """Where the versions of what lies at `url` are listed, None where its address does not show that.

    For the archives of code forges the repository's tags; else the directory above what has the version in its name.
    """
    forge = _FORGE.fullmatch(url)
    if forge:
        return Watch(git=f"{forge[1]}.git", pattern=rf"\D*{VERSION}")
    parts = urllib.parse.urlsplit(url)
    if not url.startswith(SCHEMES) or not version:
        return None
    segments = parts.path.split("/")
    place = next((number for number, segment in enumerate(segments) if version in segment), None)
    if place is None:
        return None
    page = urllib.parse.urlunsplit((parts.scheme, parts.netloc, "/".join([*segments[:place], ""]), "", ""))
    return Watch(page, pattern=VERSION.join(re.escape(part) for part in segments[place].split(version, 1)))


def listed_versions(watch: Watch, timeout: float, tags: Callable[[str], list[str]]) -> list[str]:
    """The versions there, in no order, unfinished ones too. `tags` lists a repository's. Raises FetchError."""
    pattern = re.compile(watch.pattern.replace("{version}", VERSION))
    if watch.git:
        names = tags(watch.git)
        return [found[1] for name in names if (found := pattern.fullmatch(name))]
    with fetching(watch.url), opened(watch.url, timeout) as answer:
        text = answer.read(LARGEST_PAGE).decode("utf-8", "replace")
    links = [urllib.parse.unquote(link) for link in _LINK.findall(text)]
    names = [link.split("?")[0].rstrip("/").rpartition("/")[2] for link in links] or text.split()
    versions = [match[1] for name in names if (match := pattern.fullmatch(name))]
    versions = versions or [match[1] for match in pattern.finditer(text)]
    if not versions:
        raise FetchError("update.nothing", f"{redacted(watch.url)} lists nothing that looks like {watch.pattern}")
    return versions


def is_finished(version: str) -> bool:
    """Whether it is no release candidate or the like."""
    return not _UNFINISHED.search(version)
