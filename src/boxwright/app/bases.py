"""What FROM means on this machine, and how its tree is fetched."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from boxwright.app.names import image_name
from boxwright.app.outside import ANYWHERE, Outside
from boxwright.app.request import BuildRequest
from boxwright.errors import BoxwrightError, FetchError
from boxwright.model.digest import Digest, digest_from_hex
from boxwright.model.image import ImageConfig
from boxwright.model.span import Span
from boxwright.model.step import Base
from boxwright.ports import ResolvedBase
from boxwright.sources.reference import Meaning, classify
from boxwright.store.images import Images, config_from_text, config_text
from boxwright.store.store import Store

if TYPE_CHECKING:
    from boxwright.app.locks import Lock, LockedBase
    from boxwright.sources.packages import BootstrapResult

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class BaseResolver:
    """Says what a base's name means, and its configuration. Registry answers are remembered until ``--pull``.

    What a `lock` pins is that, whatever else has the name by now; with `locked` nothing else is fetched. `asked` are
    the steps by the names that were asked for.
    """

    def __init__(
        self,
        store: Store,
        *,
        pull: bool,
        contexts: Collection[str] = (),
        configured: Mapping[str, str] = MappingProxyType({}),
        lock: Lock | None = None,
        locked: bool = False,
        offline: bool = False,
    ) -> None:
        self._store = store
        self._pull = pull
        self._contexts = contexts
        self._configured = configured
        self._lock = lock
        self._locked = locked
        self._offline = offline
        self.asked: dict[str, Base] = {}

    def base(self, name: str, platform: str, where: Span) -> ResolvedBase:
        """What `name` means: a local tag, a configured base, a base system, an archive, or an image of a registry."""
        try:
            found = self._resolved(name, platform, where)
        except BoxwrightError as error:
            error.where = error.where or where
            raise
        self.asked[name] = found.step
        return found

    def _resolved(self, name: str, platform: str, where: Span) -> ResolvedBase:
        pinned = self._lock.images.get(name) if self._lock else None
        if pinned is not None and pinned.source in ("bootstrap", "registry"):
            return self._of_lock(name, pinned, platform)
        local = Images(self._store).find(image_name(name)) if _may_be_local(name) else None
        if local is not None:
            step = Base("image", local.snapshot.key, platform, local.snapshot.manifest.full)
            found = ResolvedBase(step, local.config, f"local image {name}")
        else:
            meaning = classify(name, contexts=self._contexts, bases=self._configured)
            if self._locked and meaning.source in ("bootstrap", "registry"):
                from boxwright.app.locks import unpinned

                raise unpinned(name, where, self._lock)
            found = self._from_outside(meaning, platform)
            if name in self._configured:
                found = found._replace(shown=f"configured base {name}: {found.shown}")
        if pinned is not None and pinned.content != found.step.pinned:
            raise FetchError(
                "lock.base-differs",
                f"{name} is {found.step.pinned}, not {pinned.content}, which the lock pins",
                hint="bring back the one that was locked, or run `boxwright lock`",
            )
        return found

    def _of_lock(self, name: str, pinned: LockedBase, platform: str) -> ResolvedBase:
        shown = f"locked {name}"
        if pinned.source == "registry":
            digest = pinned.content.removeprefix("sha256:")
            whole = Meaning("registry", f"{pinned.name.partition('@')[0]}@sha256:{digest}")
            found = self._image(whole, platform)
            step = found.step._replace(name=pinned.name)
            return ResolvedBase(step, found.config, shown)
        config = self._base_system(pinned.name, platform).config
        return ResolvedBase(Base("bootstrap", pinned.name, platform, Digest(pinned.content)), config, shown)

    def _base_system(self, name: str, platform: str) -> ResolvedBase:
        config = ImageConfig(platform.split("/")[1], env=(("PATH", DEFAULT_PATH),), cmd=(_shell(name),))
        return ResolvedBase(Base("bootstrap", name, platform), config, f"base system {name}")

    def recipe(self, name: str) -> tuple[str, str]:
        """A recipe that comes with the program: its text and its path."""
        from boxwright.app.recipes import own_recipe

        return own_recipe(name)

    def _from_outside(self, meaning: Meaning, platform: str) -> ResolvedBase:
        architecture = platform.split("/")[1]
        if meaning.source == "bootstrap":
            return self._base_system(meaning.name, platform)
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
        pinned = "@sha256:" in meaning.name
        if row is None or (self._pull and not pinned) or meaning.source != "registry":
            if self._offline and meaning.source == "registry":
                Outside(offline=True).require(f"the image {meaning.name}")
            digest, config = inspect_image(meaning, platform)
            with self._store.index.writing() as db:
                db.execute(
                    "INSERT OR REPLACE INTO bases VALUES (?, ?, ?, ?, ?, ?)",
                    (f"{name} {platform}", "", config_text(config), digest, "[]", int(time.time())),
                )
        else:
            digest, config = Digest(row[0]), config_from_text(row[1])
        return ResolvedBase(Base(meaning.source, meaning.name, platform, digest), config, name)


def base_resolver(store: Store, request: BuildRequest, configured: Mapping[str, str]) -> BaseResolver:
    """What bases mean in the build that is asked for."""
    return BaseResolver(
        store,
        pull=request.pull,
        configured=configured,
        lock=request.lock,
        locked=request.locked,
        offline=request.offline,
    )


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
    """Brings the trees of bases, each with what is made for its kind. What a lock pins is made of just that.

    With `keep` the files of the packages that a base is made of are kept by digest.
    """

    def __init__(
        self, store: Store, outside: Outside = ANYWHERE, lock: Lock | None = None, *, keep: bool = False
    ) -> None:
        self._store = store
        self._outside = outside
        self._lock = lock
        self._keep = keep
        self._made: dict[Base, BootstrapResult] = {}

    def fetch(
        self, base: Base, directory: str, output: Callable[[bytes], None], cancelled: Callable[[], bool]
    ) -> int | None:
        """Fill `directory`; returns the newest time in it, None to keep all times."""
        if base.source == "tar":
            from boxwright.sources.unpack import unpack_tar

            unpack_tar(base.name, directory)
            return None
        if base.source == "toolchain" and base.name.startswith("image+"):
            from boxwright.app.toolchainimages import fetch_toolchain_image

            return fetch_toolchain_image(base, directory, self._store, output)
        if base.source == "debian-package":
            from boxwright.app.toolchains import fetch_debian

            paths = self._lock.paths if self._lock else {}
            return fetch_debian(base, directory, self._store, self._outside, paths, output)
        if base.source in ("bootstrap", "toolchain"):
            return self._base_system(base, directory, output, cancelled)
        from boxwright.app.imports import fetch_image

        if base.source == "registry":
            self._outside.require(f"the image {base.name}")
        fetch_image(base, directory, self._store.home.cache, output)
        return None

    def _base_system(
        self, base: Base, directory: str, output: Callable[[bytes], None], cancelled: Callable[[], bool]
    ) -> int:
        from boxwright.app.basesystems import Surroundings, make_base_system

        around = Surroundings(self._store, self._outside, self._pinned(base), self._keep, output, cancelled, self._made)
        if base.source == "bootstrap":
            return make_base_system(base, base.name, directory, around).epoch
        from boxwright.app.toolchains import fetch_toolchain

        return fetch_toolchain(base, directory, around)

    def made(self, base: Base, content: Digest) -> None:
        """Remember what a tree that was just fetched was made of."""
        if base.source == "debian-package" and base.pinned is not None:
            from boxwright.store.packages import Packages

            Packages(self._store).note_deb(base.name, content, base.pinned)
        result = self._made.pop(base, None)
        if result is not None:
            from boxwright.app.basesystems import note_made

            note_made(self._store, content, result)

    def _pinned(self, base: Base) -> LockedBase | None:
        """What the lock says of it, where the step is pinned to that."""
        from boxwright.app.locks import locked_as

        return locked_as(self._lock, base)

    def unpack(self, path: str, directory: str) -> None:
        """Unpack an archive that ADD names."""
        from boxwright.sources.unpack import unpack_tar

        unpack_tar(path, directory, mark_implied=True)

    def is_archive(self, path: str) -> bool:
        """Whether ADD unpacks this file."""
        from boxwright.sources.unpack import is_archive

        return is_archive(path)
