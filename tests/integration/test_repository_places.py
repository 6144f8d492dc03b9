"""Repositories in a registry, in a bucket and behind ssh: the attacks and races of the unit tests, on real servers."""

from __future__ import annotations

import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwright.app.repositories import place_for
from boxwright.app.repositoryconfiguration import Binary, Way
from boxwright.repositories.binary.place import Place, Source, Upload, whole
from boxwright.repositories.binary.upkeep import collect, count
from tests.conftest import PROGRAM
from tests.integration.conftest import free_port, until
from tests.integration.registries import FaultProxy, Registry, proxied, serving
from tests.unit.repositories.conftest import Host
from tests.unit.repositories.test_catalog import (  # noqa: F401 - they are run here too, with this module's `host`
    fetch,
    found,
    test_a_damaged_journal_is_no_authority,
    test_a_name_stands_for_the_newest,
    test_a_package_that_was_collected_is_gone_for_whoever_fetches_it,
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

MINIMUM = 1.0
_NUMBERS = iter(range(1000))


def binary(way: Way, endpoint: str = "", time_limit: float = 5.0) -> Binary:
    return Binary("host", way, way, (), frozenset(), "", endpoint, "", insecure=False, time_limit=time_limit)


class DistantHost(Host):
    """A repository on a server; who can write there does so as any client could."""

    def __init__(self, work: Path, way: Way, environment: dict[str, str], endpoint: str = "") -> None:
        (work / "unused").mkdir()
        super().__init__(work / "unused", work, "")
        self._way, self._endpoint, self._environment = way, endpoint, environment
        self._sources: list[Source] = []
        self.place: Place = self.source(5.0)  # type: ignore[assignment]

    def source(self, time_limit: float) -> Source:
        made = place_for(self._way, binary(self._way, self._endpoint, max(time_limit, MINIMUM)), self._environment)
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

    def __init__(self, work: Path, registry: Registry, host: str = "") -> None:
        self.registry = registry
        self.repository = f"boxes/of-{next(_NUMBERS)}"
        super().__init__(work, Way("oci", f"{host or registry.host}/{self.repository}"), dict(os.environ))

    def overwrite(self, name: str, data: bytes) -> None:
        if not name.startswith("blobs/"):
            super().overwrite(name, data)
            return
        digits = name.rpartition("/")[2]
        path = self.registry.root / f"docker/registry/v2/blobs/sha256/{digits[:2]}/{digits}/data"
        assert path.exists()
        path.write_bytes(data)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with serving(tmp_path_factory.mktemp("registry")) as found_registry:
        yield found_registry


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The endpoint of moto's server with the bucket `bucket`."""
    port = free_port()
    words: list[str | Path] = [PROGRAM.parent / ".venv/bin/moto_server", "-p", str(port)]
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT"), timeout=5).close()
        except OSError:
            return False
        return True

    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            until(answers, 30)
            yield address
        finally:
            server.terminate()


@pytest.fixture(params=["oci", "s3"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    """Takes the place of the directory of the unit tests."""
    made: DistantHost
    if request.param == "oci":
        made = RegistryHost(tmp_path, request.getfixturevalue("registry"))
    else:
        keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
        way = Way("s3", f"bucket/of-{next(_NUMBERS)}")
        made = DistantHost(tmp_path, way, {**os.environ, **keys}, request.getfixturevalue("bucket"))
    yield made
    made.close()


# What only a registry does --------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(registry: Registry) -> Iterator[FaultProxy]:
    with proxied(registry) as made:
        yield made


@pytest.fixture
def box(registry: Registry, tmp_path: Path) -> Iterator[RegistryHost]:
    made = RegistryHost(tmp_path, registry)
    yield made
    made.close()


def collect_garbage(registry: Registry) -> None:
    """The registry's own collection, of all that no tag leads to."""
    words: list[str | Path] = ["docker-registry", "garbage-collect", "--delete-untagged"]
    subprocess.run([*words, registry.root.parent / "registry.yml"], check=True, capture_output=True)


def test_a_thousand_identities_of_a_registry_cost_few_requests(box: RegistryHost, proxy: FaultProxy) -> None:
    names = [f"p{number}" for number in range(1000)]
    for start in range(0, 200, 10):  # twenty pushes; eight hundred are in none
        box.publish(*names[start : start + 10])
    box._way = Way("oci", f"{proxy.host}/{box.repository}")
    client = box.packages()
    assert len(client.find(wanted(*names))) == 200
    assert len(proxy.seen) <= 15, proxy.seen
    proxy.seen.clear()
    assert len(client.find(wanted(*names))) == 200
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
    # The registry's own collection leaves the repository whole.
    collect_garbage(box.registry)
    assert well(box) == []


def test_collection_in_a_registry(box: RegistryHost, tmp_path: Path) -> None:
    box.publish("old", when=1000)
    box.publish("new", when=5000)
    for number in range(20):
        box.publish(f"p{number}", when=5000)
    assert count(box.place).records == {"package": 44}
    assert collect(box.place, now=10**11, oldest=3000, grace=0, dry_run=True).records == 2
    gone = collect(box.place, now=10**11, oldest=3000, grace=0, dry_run=False)
    assert (gone.records, gone.objects) == (2, 1)  # content is the registry's to collect; a signature
    assert found(box, "old", "new") == {"demo/new-1"}
    assert well(box) == []
    assert box.client(near=True).prune(box.place, 10**11) == 16
    assert len(found(box, "new", *(f"p{number}" for number in range(20)))) == 21
    collect_garbage(box.registry)
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


READ_HARMS = [
    ("500", {"registry.server-error"}),
    ("429", {"registry.too-many-requests"}),
    ("reset", {"registry.unreachable"}),
    ("stall", {"registry.unreachable"}),
    ("cut", {"registry.unreachable"}),
    ("lie", {"registry.unreachable", "repository.too-long"}),
    ("flip", {"repository.altered"}),
    ("endless", {"repository.too-long"}),
]


@pytest.mark.parametrize(("harm", "codes"), READ_HARMS, ids=[it[0] for it in READ_HARMS])
def test_a_registry_that_misbehaves_gives_a_clear_error(
    box: RegistryHost, proxy: FaultProxy, tmp_path: Path, harm: str, codes: set[str]
) -> None:
    box.publish("p")
    box._way = Way("oci", f"{proxy.host}/{box.repository}")
    proxy.harm = lambda method, path, _: harm if method == "GET" and "/blobs/" in path else ""
    assert fetch(box, tmp_path) in codes
    # What happens once is tried again.
    passed: set[str] = set()

    def once(method: str, path: str, _: int) -> str:
        if f"{method} {path}" in passed or "/v2/boxes" not in path:
            return ""
        passed.add(f"{method} {path}")
        return harm if harm in ("500", "429", "reset", "cut") else ""

    proxy.harm = once
    assert fetch(box, tmp_path) == ""


@pytest.mark.parametrize("harm", ["500", "reset", "stall"])
@pytest.mark.parametrize("part", ["/blobs/uploads/", "/manifests/signatures", "/manifests/records", "/journal/"])
def test_an_upload_that_fails_leaves_the_repository_whole(
    box: RegistryHost, proxy: FaultProxy, harm: str, part: str
) -> None:
    from boxwright.errors import BoxwrightError

    box.publish("q")
    direct = box.place
    box.place = place_for(  # type: ignore[assignment]
        Way("oci", f"{proxy.host}/{box.repository}"),
        binary(Way("oci", ""), time_limit=0.4),
        dict(os.environ),
    )
    proxy.harm = lambda method, path, _: harm if method in ("PUT", "POST") and part in path else ""
    with pytest.raises(BoxwrightError) as caught:
        box.publish("p", when=1)
    assert caught.value.code in {"registry.server-error", "registry.unreachable"}
    broken, box.place = box.place, direct
    assert well(box) == []
    proxy.harm = lambda *_: ""
    box.place = broken
    box.publish("p", when=1)
    broken.close()
    box.place = direct
    assert well(box) == []
    assert len(found(box, "p", "q")) == 2
