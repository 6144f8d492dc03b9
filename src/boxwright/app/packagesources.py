"""What package builds read: fetched outside of the sandbox, checked, kept by content."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType

from boxwright.app.outside import ANYWHERE, Outside
from boxwright.errors import FetchError
from boxwright.model.step import PackageSource
from boxwright.store.packages import Packages


class PackageSources:
    """Provides the files of sources from the store, else from where they come from. Safe for threads."""

    def __init__(
        self, packages: Packages, outside: Outside = ANYWHERE, paths: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._packages = packages
        self._outside = outside
        self._paths = paths

    def provide(self, source: PackageSource, index: int, output: Callable[[bytes], None]) -> str:
        """The path of one of the source's files."""
        name, content = source.files[index]
        found = self._packages.blob(content)
        if found is not None:
            return found
        if source.origins and source.origins[0].startswith("local:"):
            return self._local(source.origins[0].removeprefix("local:"), content)
        self._outside.require(name)
        if content.startswith("git:"):
            return self._git(source, content, output)
        return self._fetched(source, name, content, output)

    def _fetched(self, source: PackageSource, name: str, content: str, output: Callable[[bytes], None]) -> str:
        from boxwright.sources.fetch import download, first_that_works

        wanted = content.removeprefix("sha256:")
        with self._packages.adding() as part:

            def fetch(origin: str) -> str:
                if origin.startswith("debian:"):
                    return self._debian(origin.removeprefix("debian:"), wanted, part, output)
                return download(origin, part, self._outside.timeout)

            first_that_works(source.origins, wanted, fetch, output)
            self._packages.add(part, content)
        return self._here(content)

    def _debian(self, package: str, wanted: str, part: str, output: Callable[[bytes], None]) -> str:
        """The file of a source package that has the wanted bytes. Without a version, of any that has it.

        By its digest where it is known to lie, then from the mirrors, then from the archive of old versions.
        """
        from boxwright.sources.debian import versions_with

        name, _, version = package.partition("=")
        if self._from_pool(name, version, wanted, part, output):
            return wanted
        failure = FetchError("source.fetch", f"the source package {package} holds no file with that sha256")
        exacts = (version,) if version else versions_with(name, wanted, self._packages.cache("apt"), output)
        for exact in exacts:
            try:
                if self._take(name, exact, wanted, part, output):
                    return wanted
            except FetchError as error:
                failure = error
        return self._from_snapshot(name, version, wanted, part, failure)

    def _take(self, name: str, version: str, wanted: str, part: str, output: Callable[[bytes], None]) -> bool:
        from boxwright.sources.debian import fetch_source
        from boxwright.steps.package import remove

        directory = f"{part}.d"
        os.makedirs(directory)
        try:
            for file, digest in fetch_source(name, version, directory, self._packages.cache("apt"), output):
                if digest == wanted:
                    os.rename(f"{directory}/{file}", part)
                    return True
        finally:
            remove(directory)
        return False

    def _from_snapshot(self, name: str, version: str, wanted: str, part: str, error: FetchError) -> str:
        """From the archive of old versions, after the mirrors said `error`."""
        from boxwright.sources.snapshotarchive import fetch_old

        if not self._outside.snapshot or not version:
            raise error
        try:
            fetch_old(self._outside.snapshot, name, version, "source", wanted, part, self._outside.timeout)
        except FetchError as other:
            raise FetchError("source.fetch", f"{error.message}\n  {other.message}", hint=error.hint) from other
        return wanted

    def _from_pool(self, name: str, version: str, wanted: str, part: str, output: Callable[[bytes], None]) -> bool:
        """Whether the file came by its digest: from where it was, or from the archive of old versions."""
        from boxwright.app.poolfiles import archive_roots, own_distribution
        from boxwright.sources.pool import PoolFile, fetch_pool
        from boxwright.steps.package import remove

        path = self._paths.get(wanted) or self._packages.pin(f"pool sha256:{wanted}") or ""
        if not path:
            return False
        file = PoolFile(name, version, "source", wanted, path)
        distribution = own_distribution()
        places = archive_roots(distribution, self._outside, ())
        snapshot = self._outside.snapshot if distribution == "debian" and version else ""
        directory = f"{part}.d"
        os.makedirs(directory)
        try:
            fetch_pool([file], places, snapshot, directory, output, self._outside.timeout)
            os.rename(f"{directory}/{wanted}", part)
        finally:
            remove(directory)
        return True

    def _git(self, source: PackageSource, content: str, output: Callable[[bytes], None]) -> str:
        from boxwright.sources.gitarchive import archive_commit

        with self._packages.adding() as part:
            archive_commit(
                [origin.removeprefix("git:") for origin in source.origins], content.removeprefix("git:"), part, output
            )
            self._packages.add(part, content)
        return self._here(content)

    def _local(self, path: str, content: str) -> str:
        from boxwright.sources.localtree import write_local

        with self._packages.adding() as part:
            found = write_local(path, part)
            if f"sha256:{found}" != content:
                raise FetchError("source.changed", f"{path} was changed while it was being read", hint="build again")
            self._packages.add(part, content)
        return self._here(content)

    def _here(self, content: str) -> str:
        found = self._packages.blob(content)
        if found is None:
            raise FetchError("store.gone", f"{content} was removed while it was needed", hint="build again")
        return found
