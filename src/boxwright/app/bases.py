"""What FROM means on this machine, and how its tree is fetched."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

from boxwright.app.names import image_name
from boxwright.errors import BoxwrightError
from boxwright.model.digest import Digest, digest_from_hex
from boxwright.model.image import ImageConfig
from boxwright.model.span import Span
from boxwright.model.step import Base
from boxwright.ports import ResolvedBase
from boxwright.sources.reference import Meaning, classify
from boxwright.store.images import Images, config_from_text, config_text
from boxwright.store.store import Store

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class BaseResolver:
    """Says what a base's name means, and its configuration. Registry answers are remembered until ``--pull``."""

    def __init__(
        self,
        store: Store,
        *,
        pull: bool,
        contexts: Collection[str] = (),
        configured: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._store = store
        self._pull = pull
        self._contexts = contexts
        self._configured = configured

    def base(self, name: str, platform: str, where: Span) -> ResolvedBase:
        """What `name` means: a local tag, a configured base, a base system, an archive, or an image of a registry."""
        try:
            local = Images(self._store).find(image_name(name)) if _may_be_local(name) else None
            if local is not None:
                step = Base("image", local.snapshot.key, platform, local.snapshot.manifest.full)
                return ResolvedBase(step, local.config, f"local image {name}")
            found = self._from_outside(classify(name, contexts=self._contexts, bases=self._configured), platform)
            return found._replace(shown=f"configured base {name}: {found.shown}") if name in self._configured else found
        except BoxwrightError as error:
            error.where = error.where or where
            raise

    def recipe(self, name: str) -> tuple[str, str]:
        """A recipe that comes with the program: its text and its path."""
        from boxwright.app.recipes import own_recipe

        return own_recipe(name)

    def _from_outside(self, meaning: Meaning, platform: str) -> ResolvedBase:
        architecture = platform.split("/")[1]
        if meaning.source == "bootstrap":
            config = ImageConfig(architecture, env=(("PATH", DEFAULT_PATH),), cmd=(_shell(meaning.name),))
            return ResolvedBase(Base("bootstrap", meaning.name, platform), config, f"base system {meaning.name}")
        if meaning.source == "tar":
            pinned = self._file_digest(meaning.name)
            config = ImageConfig(architecture, env=(("PATH", DEFAULT_PATH),))
            return ResolvedBase(Base("tar", meaning.name, platform, pinned), config, f"root file system {meaning.name}")
        return self._image(meaning, platform)

    def _file_digest(self, path: str) -> Digest:
        try:
            from boxwright.store.filedigests import file_digest

            return digest_from_hex(file_digest(self._store.index, path))
        except OSError as error:
            raise BoxwrightError("base.not-found", f"{path} can't be read: {error.strerror}") from error

    def _image(self, meaning: Meaning, platform: str) -> ResolvedBase:
        """An image with a configuration of its own, from a registry or a layout."""
        from boxwright.app.imports import inspect_image

        name = f"{meaning.source}:{meaning.name}"
        row = self._store.index.one("SELECT digest, config FROM bases WHERE name=?", (f"{name} {platform}",))
        if row is None or self._pull or meaning.source != "registry":
            digest, config = inspect_image(meaning, platform)
            with self._store.index.writing() as db:
                db.execute(
                    "INSERT OR REPLACE INTO bases VALUES (?, ?, ?, ?, ?, ?)",
                    (f"{name} {platform}", "", config_text(config), digest, "[]", int(time.time())),
                )
        else:
            digest, config = Digest(row[0]), config_from_text(row[1])
        return ResolvedBase(Base(meaning.source, meaning.name, platform, digest), config, name)


def _shell(base: str) -> str:
    """The shell that a base system has."""
    return "/bin/sh" if base.startswith("alpine:") else "/bin/bash"


def _may_be_local(name: str) -> bool:
    try:
        image_name(name)
    except BoxwrightError:
        return False
    return True


class BaseFetcher:
    """Brings the trees of bases, each with what is made for its kind."""

    def __init__(
        self,
        store: Store,
        *,
        mirror: str | None,
        mirrors: Mapping[str, str] = MappingProxyType({}),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._store = store
        self._mirror = mirror
        self._mirrors = mirrors
        self._environment = environment

    def fetch(
        self, base: Base, directory: str, output: Callable[[bytes], None], cancelled: Callable[[], bool]
    ) -> int | None:
        """Fill `directory`; returns the newest time in it, None to keep all times."""
        if base.source == "bootstrap":
            return self._bootstrap(base, directory, output, cancelled)
        if base.source == "tar":
            from boxwright.sources.unpack import unpack_tar

            unpack_tar(base.name, directory)
            return None
        if base.source == "toolchain" and base.name.startswith("image+"):
            from boxwright.app.toolchainimages import fetch_toolchain_image

            return fetch_toolchain_image(base, directory, self._store, output)
        if base.source in ("toolchain", "debian-package"):
            from boxwright.app.toolchains import fetch_debian, fetch_toolchain

            if base.source == "debian-package":
                return fetch_debian(base, directory, self._store, output)
            return fetch_toolchain(base, directory, self._store, self._mirror, output)
        from boxwright.app.imports import fetch_image

        fetch_image(base, directory, self._store.home.cache, output)
        return None

    def _bootstrap(
        self, base: Base, directory: str, output: Callable[[bytes], None], cancelled: Callable[[], bool]
    ) -> int:
        from boxwright.sources.alpine.keys import apk_places
        from boxwright.sources.bootstrap import bootstrap

        distribution = base.name.partition(":")[0]
        own = "?mirror=" in base.name
        result = bootstrap(
            base.name,
            directory,
            mirror=self._mirror or (None if own else self._mirrors.get(distribution)),
            output=output,
            architecture=base.platform.split("/")[1],
            cancelled=cancelled,
            apk=apk_places(self._environment, self._store.home.root, self._store.home.cache),
        )
        packages = json.dumps([[p.name, p.version, p.architecture, p.sha256] for p in result.packages])
        with self._store.index.writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO bases VALUES (?, ?, ?, ?, ?, ?)",
                (f"bootstrap:{base.name} {base.platform}", "", "{}", "", packages, int(time.time())),
            )
        return result.epoch

    def unpack(self, path: str, directory: str) -> None:
        """Unpack an archive that ADD names."""
        from boxwright.sources.unpack import unpack_tar

        unpack_tar(path, directory, mark_implied=True)

    def is_archive(self, path: str) -> bool:
        """Whether ADD unpacks this file."""
        from boxwright.sources.unpack import is_archive

        return is_archive(path)
