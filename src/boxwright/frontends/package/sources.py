"""Sources, patches and files of a definition: what each is by content, and where it can be had."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from boxwright.frontends.package.convert import key_place, place_of
from boxwright.frontends.package.document import Mapping
from boxwright.frontends.package.merge import URL
from boxwright.frontends.package.problem import wrong
from boxwright.frontends.package.schema import Patch, Source
from boxwright.frontends.package.wanted import PackageFiles
from boxwright.model.debianname import is_package
from boxwright.model.giturl import redacted
from boxwright.model.span import Span
from boxwright.model.step import PackageSource

KINDS = ("url", "git", "local", "debian")


def resolve_sources(
    sources: tuple[Source, ...], version: str, document: Mapping, files: PackageFiles
) -> tuple[PackageSource, ...]:
    """Every source by content. Raises `package.source` where one is not exactly one of url, git, local, debian."""
    return tuple(
        _source(source, version, place_of(document, "sources", number).span, files)
        for number, source in enumerate(sources)
    )


def _source(source: Source, version: str, where: Span, files: PackageFiles) -> PackageSource:
    given = [kind for kind in KINDS if getattr(source, kind)]
    if len(given) != 1:
        said = f"has {' and '.join(given)}" if given else "says nothing of where it is"
        raise wrong("source", f"a source has one of {', '.join(KINDS)}; this one {said}", where)
    _check_path(source.into, where)
    kind = "archive" if source.unpack else "file"
    if source.url:
        return _url(source, version, kind, where, files)
    if source.git:
        if not source.commit:
            raise wrong(
                "no-checksum",
                f"{redacted(source.git)} needs a commit",
                where,
                hint="add the line `commit: ID`, 40 digits",
            )
        name = os.path.basename(source.git.rstrip("/")).removesuffix(".git") or "source"
        commit = ((f"{name}.tar", f"git:{source.commit}"),)
        return PackageSource("archive", commit, source.into, 0, (), (f"git:{source.git}",))
    if source.local:
        return _local(source, kind, where, files)
    debian = source.debian
    assert debian is not None  # noqa: S101 - the one kind that is left
    exact = debian.version.replace("{version}", version)
    contents = files.debian_files(debian.package, exact, debian.sha256, where)
    options = (("patched", "true" if debian.patched else "false"),)
    return PackageSource("debian", contents, source.into, 0, options, (f"debian:{debian.package}={exact}",))


def _url(source: Source, version: str, kind: str, where: Span, files: PackageFiles) -> PackageSource:
    origins = tuple(text.replace("{version}", version) for text in (source.url, *source.mirrors))
    for origin in origins:
        package, equals, exact = origin.removeprefix("debian:").partition("=")
        if origin.startswith("debian:") and (not is_package(package, exact) or (equals and not exact)):
            raise wrong("source", f"{origin!r} names no source package of a distribution", where)
    name = os.path.basename(urlsplit(origins[0]).path) or "source"
    sha256 = source.sha256 or files.checksum(origins, where, "sha256: {}")
    return PackageSource(kind, ((name, f"sha256:{sha256}"),), source.into, source.strip, (), origins)


def _local(source: Source, kind: str, where: Span, files: PackageFiles) -> PackageSource:
    content, _ = files.local(source.local, where)
    name = os.path.basename(source.local.rstrip("/"))
    if files.is_directory(source.local):
        if f"{os.path.dirname(where.file)}/".startswith(f"{source.local.rstrip('/')}/"):
            name = "source"  # what the directory that the definition lies in is called is no part of it
        return PackageSource("archive", ((f"{name}.tar", content),), source.into, 0, (), (f"local:{source.local}",))
    return PackageSource(kind, ((name, content),), source.into, source.strip, (), (f"local:{source.local}",))


def resolve_patches(
    patches: dict[str, str | Patch], document: Mapping, files: PackageFiles
) -> tuple[PackageSource, ...]:
    """Patches in their order, each with its reason. `strip` is -1 where the level is to be found."""
    result = []
    for place, given in patches.items():
        where = _where(document, "patches", place)
        patch = given if isinstance(given, Patch) else Patch(reason=given)
        _check_path(patch.into, where)
        if URL.match(place):
            line = f"{place}: {{reason: ..., sha256: {{}}}}"
            content = f"sha256:{patch.sha256 or files.checksum((place,), where, line)}"
            origin = place
        else:
            content, origin = files.local(place, where)[0], f"local:{place}"
        name = os.path.basename(urlsplit(place).path if URL.match(place) else place)
        strip = -1 if patch.strip is None else patch.strip
        options = (("reason", patch.reason),)
        result.append(PackageSource("patch", ((name, content),), patch.into, strip, options, (origin,)))
    return tuple(result)


def resolve_files(given: dict[str, str], document: Mapping, files: PackageFiles) -> tuple[PackageSource, ...]:
    """Files from beside the definition that are installed as they are, with mode 0755 where they run."""
    result = []
    for target, path in sorted(given.items()):
        where = _where(document, "files", target)
        _check_path(target.lstrip("/"), where)
        content, runs = files.local(path, where)
        if files.is_directory(path):
            raise wrong("source", f"{path} is a directory: `files` names files", where)
        options = (("mode", "0755" if runs else "0644"),)
        name = os.path.basename(path)
        result.append(PackageSource("install", ((name, content),), target.lstrip("/"), 0, options, (f"local:{path}",)))
    return tuple(result)


def _where(document: Mapping, key: str, name: str) -> Span:
    """Where a patch or a file is named: by the definition itself, or by what one of its flags adds."""
    use = document.items.get("use")
    flags = use.items.get("flags") if isinstance(use, Mapping) else None
    effects = [
        effect
        for flag in (flags.items.values() if isinstance(flags, Mapping) else ())
        if isinstance(flag, Mapping)
        for effect in flag.items.values()
        if isinstance(effect, Mapping)
    ]
    for holder in (document, *effects):
        named = holder.items.get(key)
        if isinstance(named, Mapping) and name in named.keys:
            return named.keys[name].span
    return key_place(document, key, name).span


def _check_path(path: str, where: Span) -> None:
    if path.startswith("/") or ".." in path.split("/") or "\n" in path or not path:
        raise wrong("value", f"{path!r} is no path inside the source directory", where)
