"""Records: found in few requests, taken only where a key that counts signed them, published by many at once."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from boxwright.errors import BoxwrightError
from boxwright.model.digest import digest_of
from boxwright.repositories.binary.catalog import ROOT
from boxwright.repositories.binary.keys import make_private_key, parse_key, read_private_key
from boxwright.repositories.binary.place import whole
from boxwright.repositories.binary.records import (
    NameEntry,
    PackageEntry,
    blob_name,
    decode,
    name_record,
    record_name,
    signature_name,
)
from boxwright.repositories.binary.upkeep import collect, count, sign_all, verify
from boxwright.repositories.ports import Wanted
from tests.unit.repositories.conftest import Host, Memory, Server, definition


def wanted(*names: str) -> list[Wanted]:
    return [Wanted(definition(name)) for name in names]


def found(host: Host, *names: str, **options: object) -> set[str]:
    return {offer.name for offer in host.packages(**options).find(wanted(*names)).values()}


def well(host: Host) -> list[str]:
    return verify(host.client(near=True), host.place, deep=True).findings


def test_a_thousand_identities_are_looked_up_with_few_requests(host: Host, server: Server) -> None:
    names = [f"p{number}" for number in range(1000)]
    for start in range(0, 200, 10):  # twenty pushes; eight hundred are in none
        host.publish(*names[start : start + 10])
    client = host.packages()
    server.requests.clear()
    assert len(client.find(wanted(*names))) == 200
    assert len(server.requests) <= 15, server.requests
    server.requests.clear()
    assert len(client.find(wanted(*names))) == 200
    assert len(server.requests) == 1, server.requests


def test_a_new_client_reads_merged_journals_and_a_known_one_only_what_is_new(host: Host, server: Server) -> None:
    for number in range(40):
        host.publish(f"p{number}")
    client = host.client()
    assert len(client.everything()) == 40
    assert sum("journal/0/" in line for line in server.requests) <= 10
    server.requests.clear()
    host.publish("new")
    assert len(client.everything()) == 41
    assert len(server.requests) == 2, server.requests


def test_what_the_journal_lacks_is_found_under_its_name(host: Host) -> None:
    host.publish("p")
    host.remove("journal/")
    assert found(host, "p") == {"demo/p-1"}


def test_a_damaged_journal_is_no_authority(host: Host) -> None:
    host.publish(*(f"p{number}" for number in range(20)))
    for name in [name for name in host.objects() if name.startswith("journal/")]:
        host.overwrite(name, b"no journal")
    assert len(found(host, *(f"p{number}" for number in range(20)))) == 20


def test_nothing_is_taken_without_a_key(host: Host) -> None:
    host.publish("p")
    client = host.packages(keys=[])
    assert not client.find(wanted("p"))
    assert client.catalog.refused


def test_signatures_are_those_that_openssl_checks(host: Host, tmp_path: Path) -> None:
    host.publish("p")
    payload = (host.directory / record_name("definition", definition("p"))).read_bytes()
    signature = host.directory / signature_name(payload, host.key.public.id)
    (tmp_path / "payload").write_bytes(payload)
    key = tmp_path / "key.pem"
    words = [
        "openssl",
        "pkeyutl",
        "-verify",
        "-rawin",
        "-inkey",
        str(key),
        "-in",
        str(tmp_path / "payload"),
        "-sigfile",
        str(signature),
    ]
    assert b"Verified Successfully" in subprocess.run(words, check=True, capture_output=True).stdout


# Attacks --------------------------------------------------------------------------------------------------------------


def test_an_altered_record_is_not_taken(host: Host) -> None:
    host.publish("p")
    name = record_name("definition", definition("p"))
    host.overwrite(name, host.bytes_of(name).replace(b'"name":"demo/p-1"', b'"name":"demo/q-1"'))
    assert not found(host, "p")
    assert well(host)


def test_an_altered_record_in_the_journal_is_not_taken(host: Host) -> None:
    from boxwright.repositories.binary.packing import packed, unpacked

    names = [f"p{number}" for number in range(20)]
    host.publish(*names)
    (name,) = [name for name in host.objects() if name.startswith("journal/0/")]
    text = unpacked(host.bytes_of(name), 1 << 20, "")
    host.overwrite(name, packed(text.replace(b"demo/p7-1", b"demo/q7-1")))
    assert "demo/p6-1" in found(host, *names)
    assert not {"demo/p7-1", "demo/q7-1"} & found(host, *names)


def test_another_packages_record_with_its_signature_is_not_taken(host: Host) -> None:
    host.publish("p", "evil")
    evil = host.bytes_of(record_name("definition", definition("evil")))
    host.overwrite(record_name("definition", definition("p")), evil)
    client = host.packages()
    assert not client.find(wanted("p"))
    assert client.catalog.refused
    assert any("something else" in finding for finding in well(host))


def test_another_packages_signature_is_none(host: Host) -> None:
    host.publish("p", "q")
    one, other = (
        signature_name(host.bytes_of(record_name("definition", definition(name))), host.key.public.id)
        for name in ("p", "q")
    )
    host.overwrite(one, host.bytes_of(other))
    assert not found(host, "p")
    assert found(host, "q")


def test_a_stranger_with_write_access_can_only_make_packages_disappear(host: Host, tmp_path: Path) -> None:
    stranger = make_private_key(str(tmp_path / "stranger.pem"))
    host.publish("p", key=stranger)
    assert not found(host, "p")
    assert found(host, "p", keys=[stranger.public])


def fetch(host: Host, tmp_path: Path, name: str = "p") -> str:
    """The code of the error with which a fetch ends, empty where it ends well."""
    client = host.packages()
    (offer,) = client.find(wanted(name)).values()
    target = tmp_path / "fetched"
    target.unlink(missing_ok=True)
    try:
        client.fetch(offer, str(target), lambda: False)
    except BoxwrightError as error:
        assert not target.exists()
        return error.code
    assert target.read_bytes() == (tmp_path / f"{name}.tar.zst").read_bytes()
    return ""


def payload_of(host: Host, name: str) -> tuple[str, str]:
    """Where a package's archive and its metadata lie."""
    entry = decode(host.bytes_of(record_name("definition", definition(name))), "")
    assert isinstance(entry, PackageEntry)
    return blob_name(entry.blob.digest), blob_name(entry.metadata.digest)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "repository.altered"),
        (lambda data: data[:-1], "repository.truncated"),
        (lambda data: data[:0], "repository.truncated"),
        (lambda data: data + b"more", "repository.too-long"),
        (lambda data: data + bytes(50_000_000), "repository.too-long"),
    ],
    ids=["altered", "truncated", "empty", "longer", "endless"],
)
def test_altered_content_is_not_taken(host: Host, tmp_path: Path, which: int, change: object, code: str) -> None:
    host.publish("p")
    assert not fetch(host, tmp_path)
    name = payload_of(host, "p")[which]
    host.overwrite(name, change(host.bytes_of(name)))  # type: ignore[operator]
    assert fetch(host, tmp_path) == code
    assert well(host)


def test_anothers_metadata_is_not_taken(host: Host, tmp_path: Path) -> None:
    host.publish("p", "q")
    host.overwrite(payload_of(host, "p")[1], host.bytes_of(payload_of(host, "q")[1]))
    assert fetch(host, tmp_path).startswith("repository.")


# Names and what is newer ----------------------------------------------------------------------------------------------


def name_it(host: Host, image: str, when: int = 0) -> NameEntry:
    entry = NameEntry(number=0, time=when, image=f"sha256:{image * 64}")
    return host.client(near=True).publish_name(host.place, host.key, "app:latest", entry)


def test_a_name_stands_for_the_newest(host: Host) -> None:
    assert host.client().named("app:latest") is None
    for number, image in enumerate("abcdefghijklmnopqrst", 1):
        assert name_it(host, image).number == number
    assert name_it(host, "t").number == 20  # the same again is nothing new
    for memory in (Memory(), Memory()):
        newest = host.client(memory=memory).named("app:latest")
        assert newest is not None
        assert (newest.number, newest.image) == (20, f"sha256:{'t' * 64}")


def test_an_older_name_is_not_offered_as_newer(host: Host) -> None:
    for image in "abc":
        name_it(host, image)
    memory = Memory()
    assert host.client(memory=memory).named("app:latest")
    # Copied to a higher number the old record says that it is the first.
    host.copy(name_record("app:latest", 1), name_record("app:latest", 4))
    newest = host.client(memory=memory).named("app:latest")
    assert newest is not None
    assert newest.number == 3
    assert any("names" in finding for finding in well(host))
    # Withheld, whoever saw the newer one notices.
    host.remove(name_record("app:latest", 4))
    host.remove(name_record("app:latest", 3))
    with pytest.raises(BoxwrightError) as caught:
        host.client(memory=memory).named("app:latest")
    assert caught.value.code == "repository.rollback"


# Keys -----------------------------------------------------------------------------------------------------------------


def test_keys_are_rotated_without_changing_a_byte(host: Host, tmp_path: Path) -> None:
    host.publish("p", "q")
    before = host.objects()
    new = make_private_key(str(tmp_path / "new.pem"))
    assert not found(host, "p", keys=[new.public])
    assert sign_all(host.client(near=True), host.place, new) == 4
    assert found(host, "p", "q", keys=[new.public]) == {"demo/p-1", "demo/q-1"}
    after = host.objects()
    assert all(after[name] == data for name, data in before.items())
    assert sign_all(host.client(near=True, keys=[host.key.public, new.public]), host.place, new) == 0


def test_a_revoked_key_no_longer_counts(host: Host, tmp_path: Path) -> None:
    other = make_private_key(str(tmp_path / "other.pem"))
    host.publish("p")
    host.publish("q", key=other)
    both = [host.key.public, other.public]
    assert found(host, "p", "q", keys=both) == {"demo/p-1", "demo/q-1"}
    assert found(host, "p", "q", keys=both, revoked=[other.public.id]) == {"demo/p-1"}
    host.client(near=True).revoke(host.place, host.key, other.public.id, "lost", 1)
    memory = Memory()
    assert found(host, "p", "q", keys=both, memory=memory) == {"demo/p-1"}
    # Whoever saw it once remembers it, also when the server withholds it.
    host.remove("revoked/")
    assert found(host, "p", "q", keys=both, memory=memory) == {"demo/p-1"}


def test_a_stranger_revokes_nothing(host: Host, tmp_path: Path) -> None:
    stranger = make_private_key(str(tmp_path / "stranger.pem"))
    host.publish("p")
    host.client(near=True).revoke(host.place, stranger, host.key.public.id, "", 1)
    assert found(host, "p") == {"demo/p-1"}


@pytest.mark.parametrize("text", ["", "ed25519:", "ed25519:AAAA", "rsa:AAAA", "ed25519:" + "ä" * 44])
def test_wrong_keys_are_refused(text: str) -> None:
    with pytest.raises(BoxwrightError) as caught:
        parse_key(text)
    assert caught.value.code == "key.wrong"


def test_private_keys_are_files_of_one_owner(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "key.pem"
    key = make_private_key(str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert parse_key(key.public.text) == key.public == read_private_key(str(path)).public
    with pytest.raises(BoxwrightError) as caught:
        make_private_key(str(path))
    assert caught.value.code == "key.exists"
    path.chmod(0o644)
    with pytest.raises(BoxwrightError) as caught:
        read_private_key(str(path))
    assert caught.value.code == "key.open"
    path.chmod(0o600)
    path.write_text("no key")
    with pytest.raises(BoxwrightError) as caught:
        read_private_key(str(path))
    assert caught.value.code == "key.unreadable"


def test_keys_of_ssh_keygen_and_openssl_sign(tmp_path: Path) -> None:
    ssh, pem = tmp_path / "ssh", tmp_path / "pem"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ssh], check=True)
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", pem], check=True)
    pem.chmod(0o600)
    for path in (ssh, pem):
        key = read_private_key(str(path))
        assert key.public.verifies(key.sign(b"text"), b"text")
        assert not key.public.verifies(key.sign(b"text"), b"other")


# Many writers ---------------------------------------------------------------------------------------------------------


def test_two_machines_that_publish_the_same_are_no_error(host: Host) -> None:
    names = [f"p{number}" for number in range(12)]
    errors: list[Exception] = []

    def machine(number: int) -> None:
        try:
            for name in names if number % 2 else reversed(names):
                host.publish(name, when=1000 + number)
        except Exception as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=machine, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(found(host, *names)) == 12
    assert well(host) == []
    assert count(host.place).records["package"] == 24  # under two keys each, once
    assert len([name for name in host.objects() if name.startswith("blobs/")]) == 24


def test_another_build_of_the_same_stays_out(host: Host) -> None:
    assert host.publish("p", content="one") == []
    before = whole(host.place, record_name("definition", definition("p")), 10_000)
    assert host.publish("p", content="two") == ["demo/p-1", "demo/p-1"]
    assert whole(host.place, record_name("definition", definition("p")), 10_000) == before
    assert found(host, "p") == {"demo/p-1"}
    assert well(host) == []


def test_a_second_publisher_signs_what_is_there(host: Host, tmp_path: Path) -> None:
    second = make_private_key(str(tmp_path / "second.pem"))
    host.publish("p", when=1)
    assert host.publish("p", when=2, key=second) == []
    assert found(host, "p", keys=[second.public]) == {"demo/p-1"}


# Upkeep ---------------------------------------------------------------------------------------------------------------


def test_a_collection_takes_what_nobody_needs(host: Host, tmp_path: Path) -> None:
    host.publish("old", when=1000)
    host.publish("new", when=5000)
    orphan = host.directory / "blobs/ab" / ("ab" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"of a push that was killed")
    (orphan.parent / ".1-half").write_bytes(b"half")
    assert verify(host.client(near=True), host.place, deep=False).findings == []
    far = 10**11
    assert collect(host.place, now=far, oldest=0, grace=0, dry_run=True).objects == 1
    assert orphan.exists()
    gone = collect(host.place, now=far, oldest=3000, grace=0, dry_run=False)
    assert (gone.records, gone.objects) == (2, 4)  # two records; archive, metadata, signature, what was killed
    assert not list(orphan.parent.iterdir())
    assert found(host, "old", "new") == {"demo/new-1"}
    assert well(host) == []
    assert not fetch(host, tmp_path, "new")


def test_what_things_were_made_of_stays_with_them(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boxwright.repositories.binary.packages.MOST_SOURCES", 2)
    host.publish("p", when=5000)
    files: dict[str, str] = {}
    for number in range(5):
        path = tmp_path / f"file{number}"
        path.write_text(f"file {number}")
        files[digest_of(path.read_bytes())] = str(path)
    first, *others = files
    toolchain, image = digest_of(b"toolchain"), digest_of(b"an image that is gone")

    def put(of: str, names: Sequence[str], parts: Sequence[str] = ()) -> list[str]:
        found = {name: files[name] for name in names}
        return host.packages(near=True).publish_sources(host.place, host.key, of, found, parts, 1000)

    base = put(digest_of(b"a base"), others[:1])
    kept = put(toolchain, others[1:], base)
    assert len(kept) == 2  # each names two files at most
    assert put(toolchain, others[1:], base) == kept
    put(image, [first])
    assert put(image, []) == []
    for name in files:
        target = str(tmp_path / f"fetched {name}")
        assert host.packages().fetch_source(name, target, lambda: False)
        assert digest_of(Path(target).read_bytes()) == name
    gone = collect(host.place, now=10**11, oldest=3000, grace=0, dry_run=False)
    assert (gone.records, gone.objects) == (1, 2)  # the image's record; its signature and its file
    assert host.objects().keys() >= {blob_name(name) for name in others}
    assert well(host) == []


def test_a_collection_leaves_what_was_put_just_now(host: Host) -> None:
    host.publish("p")
    orphan = host.directory / "blobs/ab" / ("ab" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"a push is about to name it")
    import time

    assert collect(host.place, now=int(time.time()), oldest=0, grace=3600, dry_run=False).objects == 0
    assert orphan.exists()


def test_a_package_that_was_collected_is_gone_for_whoever_fetches_it(host: Host, tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(20)]
    host.publish(*names, when=1000)
    collect(host.place, now=10**11, oldest=3000, grace=0, dry_run=False)
    client = host.packages()
    offers = client.find(wanted(*names))  # the journal still names it
    with pytest.raises(BoxwrightError) as caught:
        client.fetch(offers[wanted("p3")[0]], str(tmp_path / "fetched"), lambda: False)
    assert caught.value.code == "repository.missing"
    assert host.packages(near=True).find(wanted(*names)) == {}


def test_a_repository_of_another_format_is_refused(host: Host) -> None:
    host.publish("p")
    host.overwrite(ROOT, b'{"format": 99}')
    with pytest.raises(BoxwrightError) as caught:
        host.client().open()
    assert caught.value.code == "repository.format"


def test_where_nothing_is_nothing_is_found(host: Host) -> None:
    assert not found(host, "p")
    assert host.client().everything() == []
