"""Packages into a store: what comes out of an archive must be what the signed record says, whoever signed it."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwright.app.binaries import receive
from boxwright.app.opening import open_store
from boxwright.errors import BoxwrightError
from boxwright.model.digest import digest_of
from boxwright.repositories.binary.packages import BinaryPackages, Published
from boxwright.repositories.binary.packing import packed
from boxwright.repositories.ports import Wanted
from boxwright.store.packages import Packages
from boxwright.store.store import Store
from tests.unit.repositories.conftest import Host, definition


def tar_of(*members: tuple[str, bytes, str]) -> bytes:
    """A tar of members: name, kind, and a file's text or a link's target."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, kind, text in members:
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.linkname = kind, 0o755, "" if kind == tarfile.REGTYPE else text
            member.uid, member.gid = os.geteuid(), os.getegid()
            member.size = len(text) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store({"BOXWRIGHT_HOME": str(tmp_path / "store")}) as found:
        yield found


def publish(host: Host, tar: bytes, content: str) -> None:
    archive = host.work / "archive.tar.zst"
    archive.write_bytes(packed(tar))
    record = dict(host.package("p").record) | {"content": content, "archive": digest_of(tar)}
    publisher = BinaryPackages(host.client(near=True))
    assert not publisher.publish(
        host.place, host.key, [Published(record, str(archive), len(tar), (definition("p"),))], [], 1
    )


def take(host: Host, store: Store) -> str:
    """The code of the error with which it ends, empty where it ends well."""
    client = host.packages()
    (offer,) = client.find([Wanted(definition("p"))]).values()
    try:
        snapshot = receive(store, Packages(store), client, offer, lambda: False)
    except BoxwrightError as error:
        assert store.snapshot(offer.key) is None
        assert Packages(store).by_key(offer.key) is None
        return error.code
    finally:
        client.close()
    assert Packages(store).by_definition(definition("p")) == snapshot
    return ""


GOOD = tar_of(("./usr", tarfile.DIRTYPE, ""), ("./usr/file", tarfile.REGTYPE, "text"))


def content_of(tar: bytes, store: Store, tmp_path: Path) -> str:
    from boxwright.sources.unpack import unpack_tar

    (tmp_path / "plain.tar").write_bytes(tar)
    with store.draft(None) as draft:
        unpack_tar(str(tmp_path / "plain.tar"), draft.upper)
        return store.commit(digest_of(b"measured"), None, draft, newest=None).manifest.content


def test_a_package_is_taken(host: Host, store: Store, tmp_path: Path) -> None:
    publish(host, GOOD, content_of(GOOD, store, tmp_path))
    assert take(host, store) == ""
    assert take(host, store) == ""


def test_what_comes_out_must_be_what_the_record_says(host: Host, store: Store) -> None:
    publish(host, GOOD, digest_of(b"something else"))
    assert take(host, store) == "repository.altered"


@pytest.mark.parametrize(
    "tar",
    [
        tar_of(("../../../../escaped", tarfile.REGTYPE, "text")),
        tar_of(("/escaped", tarfile.REGTYPE, "text"), ("a/../../escaped", tarfile.REGTYPE, "x")),
        tar_of(("link", tarfile.SYMTYPE, "/tmp"), ("link/escaped", tarfile.REGTYPE, "text")),
        tar_of(("link", tarfile.SYMTYPE, "../../.."), ("link/escaped", tarfile.REGTYPE, "text")),
        tar_of(("hard", tarfile.LNKTYPE, "../../../../etc/passwd")),
        tar_of(("null", tarfile.CHRTYPE, "")),
        tar_of(("disk", tarfile.BLKTYPE, "")),
        tar_of(("pipe", tarfile.FIFOTYPE, "")),
        tar_of(("bomb", tarfile.REGTYPE, "0" * 3_000_000))[:2_000_000],
        b"no tar at all",
        b"",
    ],
    ids=["dots", "absolute", "link-out", "link-up", "hard-link", "char", "block", "fifo", "cut", "no-tar", "empty"],
)
def test_malicious_archives_lead_nowhere(host: Host, store: Store, tmp_path: Path, tar: bytes) -> None:
    publish(host, tar, digest_of(b"whatever"))
    assert take(host, store).split(".")[0] in {"repository", "archive", "base", "fetch", "store", "unpack"}
    # What an absolute name means is inside the draft, which is thrown away beside the test.
    places = [place for top in (tmp_path, tmp_path / "store") for place in top.iterdir()]
    outside = [place for place in places if place.name not in ("store", "work")]
    assert not [path for place in outside for path in (place, *place.rglob("*")) if path.name == "escaped"]
    assert not Path("/tmp/escaped").exists()
    assert not Path("/escaped").exists()


def test_an_archive_that_unpacks_to_more_than_it_says_is_refused(host: Host, store: Store) -> None:
    tar = tar_of(("bomb", tarfile.REGTYPE, "0" * 5_000_000))
    archive = host.work / "archive.tar.zst"
    archive.write_bytes(packed(tar))
    record = dict(host.package("p").record) | {"content": digest_of(b"x"), "archive": digest_of(tar)}
    publisher = BinaryPackages(host.client(near=True))
    publisher.publish(host.place, host.key, [Published(record, str(archive), 1000, (definition("p"),))], [], 1)
    assert take(host, store)
