"""Repositories in a registry, in a bucket and behind ssh: the attacks and races of the unit tests, on real servers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from boxwright.app.repositories import place_for
from boxwright.app.repositoryconfiguration import Binary, Way
from boxwright.errors import BoxwrightError
from boxwright.repositories.binary.place import Place, Upload, whole
from boxwright.repositories.binary.upkeep import collect, count
from tests.conftest import MARK
from tests.integration.binhosts import long
from tests.integration.conftest import free_port
from tests.integration.registries import FaultProxy, Registry, proxied, serving
from tests.integration.servers import start_s3
from tests.unit.repositories.conftest import Host
from tests.unit.repositories.test_catalog import (  # noqa: F401 - they are run here too, with this module's `host`
    fetch,
    found,
    payload_of,
    test_a_damaged_journal_is_no_authority,
    test_a_repository_of_another_format_is_refused,
    test_a_revoked_key_no_longer_counts,
    test_a_second_publisher_signs_what_is_there,
    test_a_stranger_revokes_nothing,
    test_a_stranger_with_write_access_can_only_make_packages_disappear,
    test_altered_content_is_not_taken,
    test_an_altered_record_in_the_journal_is_not_taken,
    test_an_altered_record_is_not_taken,
    test_an_older_name_is_not_offered_as_newer,
    test_another_build_of_the_same_stays_out,
    test_another_packages_record_with_its_signature_is_not_taken,
    test_another_packages_signature_is_none,
    test_anothers_metadata_is_not_taken,
    test_keys_are_rotated_without_changing_a_byte,
    test_nothing_is_taken_without_a_key,
    test_two_machines_that_publish_the_same_are_no_error,
    test_what_the_journal_lacks_is_found_under_its_name,
    test_where_nothing_is_nothing_is_found,
    wanted,
    well,
)

_NUMBERS = iter(range(1000))


def binary(way: Way, endpoint: str = "", time_limit: float = 5.0) -> Binary:
    return Binary("host", way, way, (), frozenset(), "", endpoint, "", insecure=False, time_limit=time_limit)


class DistantHost(Host):
    """A repository on a server; who can write there does so as any client could."""

    least = 0.1  # seconds of patience, of which the client of buckets takes ten times as many

    def __init__(self, work: Path, way: Way, environment: dict[str, str], endpoint: str = "") -> None:
        (work / "unused").mkdir()
        super().__init__(work / "unused", work, "")
        self._way, self._endpoint, self._environment = way, endpoint, environment
        self._sources: list[Place] = []
        self.place: Place = self.source(5.0)

    def source(self, time_limit: float) -> Place:
        made = place_for(self._way, binary(self._way, self._endpoint, max(time_limit, self.least)), self._environment)
        self._sources.append(made)
        return made

    def close(self) -> None:
        for it in self._sources:
            it.close()

    def bytes_of(self, name: str) -> bytes:
        return whole(self.place, name, 1 << 30)

    def overwrite(self, name: str, data: bytes) -> None:
        assert self.place.present([name])
        self.place.delete([name])
        assert not self.place.put([Upload(name, data)])

    def copy(self, name: str, target: str) -> None:
        assert not self.place.put([Upload(target, self.bytes_of(name))])

    def remove(self, prefix: str) -> None:
        top = prefix if prefix.endswith("/") else prefix.rpartition("/")[0] + "/"
        self.place.delete([it.name for it in self.place.names(top) if it.name.startswith(prefix)])

    def objects(self) -> dict[str, bytes]:
        return {it.name: self.bytes_of(it.name) for it in self.place.names("")}


class RegistryHost(DistantHost):
    """In a registry, content can't be overwritten by a client: whoever has the disk does it."""

    least = 1.0

    def __init__(self, work: Path, registry: Registry, host: str = "") -> None:
        self.registry = registry
        self.repository = f"boxes/of-{next(_NUMBERS)}"
        self._whole: dict[Path, bytes] = {}
        super().__init__(work, Way("oci", f"{host or registry.host}/{self.repository}"), dict(os.environ))

    def overwrite(self, name: str, data: bytes) -> None:
        if not name.startswith("blobs/"):
            super().overwrite(name, data)
            return
        digits = name.rpartition("/")[2]
        path = self.registry.root / f"docker/registry/v2/blobs/sha256/{digits[:2]}/{digits}/data"
        self._whole.setdefault(path, path.read_bytes())
        path.write_bytes(data)

    def close(self) -> None:
        for path, data in self._whole.items():  # all repositories of the registry share it
            path.write_bytes(data)
        super().close()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with serving(tmp_path_factory.mktemp("registry")) as found_registry:
        yield found_registry


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The endpoint of moto's server with the bucket `bucket`."""
    port = free_port()
    # It outlives a test: what looks for things left behind must not know it.
    own = {name: value for name, value in os.environ.items() if name != MARK}
    with start_s3(port, own) as server:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def bucket_host(work: Path, endpoint: str) -> DistantHost:
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    return DistantHost(work, Way("s3", f"bucket/of-{next(_NUMBERS)}"), {**os.environ, **keys}, endpoint)


@pytest.fixture
def host(registry: Registry, tmp_path: Path) -> Iterator[RegistryHost]:
    """Takes the place of the directory of the unit tests."""
    made = RegistryHost(tmp_path, registry)
    yield made
    made.close()


@pytest.mark.long
def test_two_machines_that_publish_the_same_to_a_bucket(bucket: str, tmp_path: Path) -> None:
    made = bucket_host(tmp_path, bucket)
    test_two_machines_that_publish_the_same_are_no_error(made)
    made.close()


# What only a registry does --------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(registry: Registry) -> Iterator[FaultProxy]:
    with proxied(registry) as made:
        yield made


@pytest.fixture
def box(host: RegistryHost) -> RegistryHost:
    return host


def collect_garbage(registry: Registry) -> None:
    """The registry's own collection, of all that no tag leads to."""
    words: list[str | Path] = ["docker-registry", "garbage-collect", "--delete-untagged"]
    subprocess.run([*words, registry.root.parent / "registry.yml"], check=True, capture_output=True)


def test_a_thousand_identities_of_a_registry_cost_few_requests(box: RegistryHost, proxy: FaultProxy) -> None:
    names = [f"p{number}" for number in range(1000)]
    for start in range(0, 40, 20):  # all others are in none
        box.publish(*names[start : start + 20])
    box._way = Way("oci", f"{proxy.host}/{box.repository}")
    client = box.packages()
    assert len(client.find(wanted(*names))) == 40
    assert len(proxy.seen) <= 15, proxy.seen
    proxy.seen.clear()
    assert len(client.find(wanted(*names))) == 40
    assert len(proxy.seen) == 1, proxy.seen


def test_what_is_in_a_registry_are_artifacts_that_keep_their_content(box: RegistryHost) -> None:
    box.publish("p")
    from tests.unit.repositories.conftest import definition

    value = definition("p").removeprefix("sha256:")
    manifest = box.registry.get(f"{box.repository}/manifests/records_definition_{value[:2]}_{value}")
    assert manifest["artifactType"] == "application/vnd.boxwright.object.v1"
    layers = manifest["layers"]
    assert isinstance(layers, list)
    assert {it["digest"] for it in layers} == {
        "sha256:" + it.name.rpartition("/")[2] for it in box.place.names("blobs/")
    }
    assert well(box) == []


def test_collection_in_a_registry(tmp_path: Path) -> None:
    with serving(tmp_path / "own") as own:
        box = RegistryHost(tmp_path, own)
        _collect(box, tmp_path)
        box.close()


def _collect(box: RegistryHost, tmp_path: Path) -> None:
    box.publish("old", when=1000)
    box.publish("new", when=5000)
    for number in range(15):
        box.publish(f"p{number}", when=5000)
    assert count(box.place).records == {"package": 34}
    assert collect(box.place, now=10**11, oldest=3000, grace=0, dry_run=True).records == 2
    gone = collect(box.place, now=10**11, oldest=3000, grace=0, dry_run=False)
    assert (gone.records, gone.objects) == (2, 1)  # content is the registry's to collect; a signature
    assert found(box, "old", "new") == {"demo/new-1"}
    assert box.client(near=True).prune(box.place, 10**11) == 16
    assert len(found(box, "new", *(f"p{number}" for number in range(15)))) == 16
    collect_garbage(box.registry)  # leaves the repository whole
    assert well(box) == []
    assert not fetch(box, tmp_path, "new")


def test_two_who_put_one_tag_at_once_are_told(box: RegistryHost) -> None:
    """Of two that look at the same time before they put, the one whose object is gone takes another number."""
    other = box.source(5.0)
    real = other._stays  # type: ignore[attr-defined]

    def slowly(*arguments: object) -> bool:
        from boxwright.repositories.binary.oci import tag_of
        from boxwright.repositories.registry.client import MANIFEST_TYPE

        name = "names/ab/1"
        data = other._manifest_for(other._client(name, push=True), name, b"the last", ())  # type: ignore[attr-defined]
        other._client(name, push=True).put_manifest(tag_of(name), data, MANIFEST_TYPE)  # type: ignore[attr-defined]
        return bool(real(*arguments))

    box.place._stays = slowly  # type: ignore[attr-defined]
    assert box.place.put([Upload("names/ab/1", b"the first")]) == ["names/ab/1"]
    assert box.bytes_of("names/ab/1") == b"the last"


def test_a_blob_that_a_registry_loses_sight_of(box: RegistryHost, proxy: FaultProxy) -> None:
    """docker-registry does so while two push the same one."""
    box._way = Way("oci", f"{proxy.host}/{box.repository}")
    seen: set[str] = set()

    def once(method: str, path: str, _: int) -> str:
        if method != "PUT" or "/manifests/" not in path or path in seen:
            return ""
        seen.add(path)
        return "unseen"

    proxy.harm = once
    direct, box.place = box.place, box.source(5.0)
    box.publish("p")
    box.place = direct
    assert len(seen) > 3
    assert well(box) == []


# What servers do -----------------------------------------------------------------------------------------------------


class Between(NamedTuple):
    """A repository, a proxy before its server, and how clients get there by the proxy."""

    host: DistantHost
    proxy: FaultProxy

    def use_proxy(self) -> None:
        if isinstance(self.host, RegistryHost):
            self.host._way = Way("oci", f"{self.proxy.host}/{self.host.repository}")
        else:
            self.host._endpoint = f"http://{self.proxy.host}"


@pytest.fixture(params=["oci", "s3"])
def between(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Between]:
    made: DistantHost
    if request.param == "oci":
        server = request.getfixturevalue("registry")
        made = RegistryHost(tmp_path, server)
    else:
        endpoint = request.getfixturevalue("bucket")
        server = Registry(endpoint.removeprefix("http://"), tmp_path)
        made = bucket_host(tmp_path, endpoint)
    with proxied(server) as found_proxy:
        yield Between(made, found_proxy)
    made.close()


READ_HARMS = {
    "500": {"registry.server-error", "repository.s3"},
    "429": {"registry.too-many-requests", "repository.s3"},
    "reset": {"registry.unreachable", "repository.s3"},
    "stall": {"registry.unreachable", "repository.s3"},
    "cut": {"registry.unreachable", "repository.slow", "repository.s3"},
    "lie": {"registry.unreachable", "registry.bad-answer", "repository.too-long", "repository.s3"},
    "flip": {"repository.altered"},
    "another": {"repository.altered", "repository.truncated", "repository.too-long"},
    "endless": {"repository.too-long", "repository.s3"},
}


@pytest.mark.parametrize("harm", [it if it in ("500", "cut", "flip") else long(it) for it in READ_HARMS])
def test_a_server_that_misbehaves_gives_a_clear_error(between: Between, tmp_path: Path, harm: str) -> None:
    host, proxy = between
    host.publish("p", "q")
    other = payload_of(host, "q")[0].rpartition("/")[2]
    between.use_proxy()

    def always(method: str, path: str, _: int) -> str:
        if method != "GET" or "/blobs/" not in path:
            return ""
        top, rest = path.split("/blobs/")
        prefix = f"{other[:2]}/" if "sha256:" not in rest else "sha256:"
        return f"{top}/blobs/{prefix}{other}" if harm == "another" else harm

    proxy.harm = always
    assert fetch(host, tmp_path) in READ_HARMS[harm]
    # What happens once is tried again.
    passed: set[str] = set()

    def once(method: str, path: str, _: int) -> str:
        if f"{method} {path}" in passed or path.endswith("/v2/"):
            return ""
        passed.add(f"{method} {path}")
        return harm if harm in ("500", "reset") else ""

    proxy.harm = once
    assert fetch(host, tmp_path) == ""


WRITES = {"content": "/blobs/", "signatures": "signatures", "records": "records", "journal": "/journal/"}
WRITE_HARMS = [*((part, "500") for part in WRITES), ("content", "reset"), ("records", "reset"), ("records", "stall")]


@pytest.mark.parametrize(("part", "harm"), [*WRITE_HARMS[:-1], pytest.param(*WRITE_HARMS[-1], marks=pytest.mark.long)])
def test_an_upload_that_fails_leaves_the_repository_whole(between: Between, part: str, harm: str) -> None:
    host, proxy = between
    host.publish("q")
    direct = host.place
    between.use_proxy()
    broken: Place = host.source(0)
    host.place = broken
    proxy.harm = lambda method, path, _: harm if method in ("PUT", "POST") and WRITES[part] in path else ""
    with pytest.raises(BoxwrightError) as caught:
        host.publish("p", when=1)
    assert caught.value.code in {"registry.server-error", "registry.unreachable", "repository.s3"}
    host.place = direct
    assert well(host) == []
    proxy.harm = lambda *_: ""
    host.place = broken
    host.publish("p", when=1)
    assert well(host) == []
    assert len(found(host, "p", "q")) == 2
