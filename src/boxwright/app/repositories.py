"""Opens the repositories that are configured."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from boxwright.app.repositoryconfiguration import Binary, Way, own_key_path
from boxwright.errors import BoxwrightError, UsageError
from boxwright.repositories.binary.catalog import Catalog
from boxwright.repositories.binary.keys import PrivateKey, Trust, make_private_key, read_private_key
from boxwright.repositories.binary.packages import BinaryPackages
from boxwright.repositories.binary.place import Place, Source
from boxwright.store.packages import Packages


class Opened(NamedTuple):
    """A repository that can be asked, and what it is configured as."""

    configured: Binary
    catalog: Catalog
    packages: BinaryPackages
    place: Callable[[], Place]


@contextmanager
def opened(binaries: Sequence[Binary], packages: Packages, environment: Mapping[str, str]) -> Iterator[list[Opened]]:
    """The repositories; nothing is asked before something is wanted. Connections are closed afterwards."""
    found = [_open(it, packages, environment) for it in binaries]
    try:
        yield found
    finally:
        for it in found:
            it.packages.close()


def _open(binary: Binary, packages: Packages, environment: Mapping[str, str]) -> Opened:
    own = own_key_path(environment)
    signers = [own] if own == binary.signing_key else [own, binary.signing_key]
    keys = [*binary.keys, *(read_private_key(path).public for path in signers if os.path.exists(path))]
    trust = Trust(keys, binary.revoked)
    source, place = _ways(binary, environment)
    catalog = Catalog(binary.name, source, trust, packages, packages.cache("repositories"))
    return Opened(binary, catalog, BinaryPackages(catalog), place)


def _ways(binary: Binary, environment: Mapping[str, str]) -> tuple[Source, Callable[[], Place]]:
    """Where it is read, and what opens the place to which it is uploaded."""
    up = binary.upload
    if up is None:
        return _source_for(binary.download, binary, environment), lambda: _no_upload(binary)
    if up == binary.download:
        place = place_for(up, binary, environment)
        return place, lambda: place
    return _source_for(binary.download, binary, environment), lambda: place_for(up, binary, environment)


def _no_upload(binary: Binary) -> Place:
    hint = "give upload-type and upload-path"
    raise UsageError("repository.read-only", f"nothing says how to upload to {binary.name}", hint=hint)


def _source_for(way: Way, binary: Binary, environment: Mapping[str, str]) -> Source:
    """Where objects are read."""
    if way.kind not in ("https", "http"):
        return place_for(way, binary, environment)
    from boxwright.repositories.binary.web import WebPlace

    address = way.path if "://" in way.path else f"{way.kind}://{way.path}"
    return WebPlace(address, binary.time_limit, binary.authority)


def place_for(way: Way, binary: Binary, environment: Mapping[str, str]) -> Place:
    """Where objects can be read and written."""
    match way.kind:
        case "directory":
            from boxwright.repositories.binary.directory import DirectoryPlace

            return DirectoryPlace(way.path)
        case "ssh":
            from boxwright.repositories.binary.sftp import SftpPlace

            return SftpPlace(way.path, binary.time_limit, environment)
        case "s3":
            from boxwright.repositories.binary.s3 import BucketPlace

            return BucketPlace(
                way.path,
                endpoint=binary.endpoint,
                region=binary.region,
                insecure=binary.insecure,
                time_limit=binary.time_limit,
                environment=environment,
            )
        case "oci":
            return _registry_place(way.path, binary.time_limit, environment)
        case _:
            raise UsageError("repository.kind", f"{binary.name}: there is no type {way.kind}")


def _registry_place(path: str, time_limit: float, environment: Mapping[str, str]) -> Place:
    """A repository of a registry, with the user's own credentials, mirrors left out, and rules of plain HTTP."""
    from boxwright.app.registries import Reach, Registries
    from boxwright.repositories.binary.oci import OciPlace
    from boxwright.repositories.registry.client import Client
    from boxwright.repositories.registry.retries import Patience
    from boxwright.sources.reference import parse_registry_name

    address = path.removeprefix("oci://").strip("/")
    name = parse_registry_name(address)
    if name.digest or name.tag != "latest" or address.count("/") == 0:
        raise UsageError("repository.address", f"{path} is no repository of a registry", hint="HOST[:PORT]/REPOSITORY")
    registries = Registries(environment, Reach(patience=Patience(2, 0.2), timeout=time_limit))

    def connect(below: str, push: bool) -> Client:  # noqa: FBT001 - called by position
        inner = name._replace(repository=f"{name.repository}/{below}") if below else name
        return registries.client(registries.route(inner).home, push=push)

    return OciPlace(f"oci://{name.registry}/{name.repository}", connect, time_limit, registries.close)


def signing_key(binary: Binary) -> PrivateKey:
    """The key that signs what is published; the user's own is made where there is none."""
    if not os.path.exists(binary.signing_key):
        try:
            return make_private_key(binary.signing_key)
        except BoxwrightError as error:
            if error.code != "key.exists":  # another process was quicker
                raise
    return read_private_key(binary.signing_key)
