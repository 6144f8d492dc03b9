"""The two sides of a copy: a registry's repository, or an image layout in a directory or an archive."""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from boxwright.errors import FetchError
from boxwright.files import CHUNK
from boxwright.images.oci import INDEX_TYPE, LAYOUT, REF_NAME, add_to_index, blob_path, index_json, locked, settle
from boxwright.images.paths import fresh_file, telling, temporary_beside
from boxwright.model.digest import Digest
from boxwright.repositories.registry.client import Client, Manifest, descriptors
from boxwright.repositories.registry.referrers import put_referrer
from boxwright.repositories.registry.transport import Body
from boxwright.sources.blobs import ArchiveFiles, DirectoryFiles, Files, blob_name, document, opened


class From(Protocol):
    """Where a copy is from."""

    def top(self) -> Manifest:
        """What is to be copied. Raises FetchError where it is not there."""
        ...

    def manifest(self, digest: str) -> Manifest:
        """A manifest that another one names, verified."""
        ...

    def save(self, digest: Digest, size: int, target: str) -> None:
        """Write a blob to a new file, verified."""
        ...

    def referrers(self, digest: Digest) -> list[Mapping[str, Any]]:
        """The descriptors of what refers to a manifest."""
        ...


class Into(Protocol):
    """Where a copy goes."""

    def has(self, digest: Digest) -> bool:
        """Whether a blob is there, or could be taken over without sending it."""
        ...

    def put(self, digest: Digest, path: str) -> None:
        """Add a blob, whose bytes are in a file."""
        ...

    def put_manifest(self, manifest: Manifest, *, top: bool) -> None:
        """Add a manifest; the one on top gets the name."""
        ...

    def put_referrer(self, subject: Digest, manifest: Manifest, descriptor: Mapping[str, Any]) -> None:
        """Add what refers to a manifest."""
        ...


class FromRegistry:
    """A repository's tag or digest."""

    def __init__(self, client: Client, reference: str) -> None:
        self.client = client
        self._reference = reference

    def top(self) -> Manifest:
        """What the reference names."""
        return self.manifest(self._reference)

    def manifest(self, digest: str) -> Manifest:
        """A manifest of the repository."""
        found = self.client.manifest(digest)
        if found is None:
            raise FetchError("registry.not-found", f"{self.client}: {digest} is not there", hint="is the name right?")
        return found

    def save(self, digest: Digest, size: int, target: str) -> None:
        """Fetch a blob."""
        self.client.get_blob(digest, size, target)

    def referrers(self, digest: Digest) -> list[Mapping[str, Any]]:
        """As the registry knows them."""
        return self.client.referrers(digest)


class IntoRegistry:
    """A repository. Blobs of another repository on the same registry are taken over there."""

    def __init__(self, client: Client, tag: str, beside: str = "") -> None:
        self.client = client
        self._tag = tag
        self._beside = beside
        if beside:
            client.allow_mount_from(beside)

    def has(self, digest: Digest) -> bool:
        """Whether it is there now."""
        return self.client.has_blob(digest) or bool(self._beside and self.client.mount(digest, self._beside))

    def put(self, digest: Digest, path: str) -> None:
        """Push a blob."""
        self.client.put_blob(digest, Body(lambda: open(path, "rb"), os.path.getsize(path)))  # noqa: SIM115 - by Body

    def put_manifest(self, manifest: Manifest, *, top: bool) -> None:
        """Push a manifest."""
        reference = self._tag if top and self._tag else manifest.digest
        self.client.put_manifest(reference, manifest.data, manifest.media_type)

    def put_referrer(self, subject: Digest, manifest: Manifest, descriptor: Mapping[str, Any]) -> None:
        """Push a referrer."""
        put_referrer(self.client, subject, manifest.data, descriptor)


class FromLayout:
    """An image layout, in a directory or a tar."""

    def __init__(self, path: str, name: str) -> None:
        if not os.path.exists(path):
            raise FetchError("oci.missing", f"{path} is not there")
        self._path, self._name = path, name
        self._files: Files = DirectoryFiles(path) if os.path.isdir(path) else ArchiveFiles(path)

    def _index(self) -> list[Mapping[str, Any]]:
        try:
            index = json.loads(document(self._files, "index.json", "the index"))
        except ValueError as error:
            raise FetchError("oci.bad-image", f"{self._path}: its index is no JSON") from error
        return descriptors(index if isinstance(index, dict) else {})

    def top(self) -> Manifest:
        """The image of the name, or the one there is."""
        images = [it for it in self._index() if not _is_referrer(it)]
        named = [it for it in images if self._name in ("", _name(it), it["digest"], _name(it).rpartition(":")[2])]
        if len({it["digest"] for it in named}) != 1:
            names = ", ".join(sorted({_name(it) for it in images} - {""}))
            code = "oci.ambiguous" if named else "oci.no-tag"
            message = f"{self._path}: {len(named)} images are meant" if named else f"{self._path}: no {self._name!r}"
            raise FetchError(code, message, hint=f"it has {names}" if names else "")
        return self.manifest(str(named[0]["digest"]))

    def manifest(self, digest: str) -> Manifest:
        """A manifest of the layout."""
        data = document(self._files, blob_name(Digest(digest)), "the manifest", Digest(digest))
        try:
            value = json.loads(data)
        except ValueError as error:
            raise FetchError("oci.bad-image", f"{self._path}: the manifest {digest} is no JSON") from error
        if not isinstance(value, dict):
            raise FetchError("oci.bad-image", f"{self._path}: the manifest {digest} is no object")
        kind = str(value.get("mediaType") or (INDEX_TYPE if "manifests" in value else ""))
        return Manifest(data, kind or "application/vnd.oci.image.manifest.v1+json", Digest(digest), value)

    def save(self, digest: Digest, size: int, target: str) -> None:
        """Copy a blob."""
        with opened(self._files, blob_name(digest), "a blob") as source, open(target, "wb") as file:
            while data := source.read(CHUNK):
                file.write(data)
            source.finish(digest, f"the blob {digest}", size)

    def referrers(self, digest: Digest) -> list[Mapping[str, Any]]:
        """Manifests in the index that have this one as their subject."""
        found: list[Mapping[str, Any]] = []
        for it in self._index():
            subject = self.manifest(str(it["digest"])).value.get("subject") if _is_referrer(it) else None
            if isinstance(subject, dict) and subject.get("digest") == digest:
                found.append({key: value for key, value in it.items() if key != "platform"})
        return found


class IntoLayout:
    """An image layout's directory: a new one, or one image more in what is there."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory, self._name = directory, name
        with telling(directory):
            (directory / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
            if not (directory / "oci-layout").exists():
                (directory / "oci-layout").write_bytes(LAYOUT)
                (directory / "index.json").write_bytes(index_json([]))

    def has(self, digest: Digest) -> bool:
        """Whether it is there."""
        return (self._directory / blob_path(digest)).exists()

    def put(self, digest: Digest, path: str) -> None:
        """Add a blob."""
        with open(path, "rb") as file:
            self._write(digest, file)

    def _write(self, digest: Digest, source: BinaryIO) -> None:
        with telling(self._directory), ExitStack() as undo, locked(self._directory):
            temporary = temporary_beside(self._directory / "blobs" / "sha256" / "copy")
            undo.callback(temporary.unlink, missing_ok=True)
            with temporary.open("xb") as file:
                while data := source.read(CHUNK):
                    file.write(data)
            settle(undo, temporary, self._directory / blob_path(digest))
            undo.pop_all()

    def _manifest(self, manifest: Manifest) -> None:
        from io import BytesIO

        self._write(manifest.digest, BytesIO(manifest.data))

    def put_manifest(self, manifest: Manifest, *, top: bool) -> None:
        """Add a manifest; the top one comes into the index."""
        self._manifest(manifest)
        if not top:
            return
        descriptor: dict[str, Any] = {
            "digest": manifest.digest,
            "mediaType": manifest.media_type,
            "size": len(manifest.data),
        }
        if self._name:
            descriptor["annotations"] = {REF_NAME: self._name}
        self._add(descriptor, self._name)

    def put_referrer(self, subject: Digest, manifest: Manifest, descriptor: Mapping[str, Any]) -> None:
        """Add a referrer; its platform keeps it from being taken for an image."""
        self._manifest(manifest)
        self._add({**descriptor, "platform": {"architecture": "unknown", "os": "unknown"}}, "")

    def _add(self, descriptor: dict[str, Any], name: str) -> None:
        with telling(self._directory), ExitStack() as undo, locked(self._directory):
            add_to_index(undo, self._directory, descriptor, name)
            undo.pop_all()


def write_archive(layout: str, destination: Path) -> None:
    """Write a layout as a tar: the same layout gives the same bytes."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        member.mode = 0o755 if member.isdir() else 0o644
        return member

    with fresh_file(destination) as temporary, tarfile.open(temporary, "x", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(Path(layout).rglob("*")):
            tar.add(path, str(path.relative_to(layout)), recursive=False, filter=plain)


def scratch_file(directory: str) -> str:
    """A name for a new file."""
    descriptor, path = tempfile.mkstemp(prefix="copy-", dir=directory)
    os.close(descriptor)
    os.unlink(path)
    return path


def _name(descriptor: Mapping[str, Any]) -> str:
    notes = descriptor.get("annotations")
    return str(notes.get(REF_NAME, "")) if isinstance(notes, dict) else ""


def _is_referrer(descriptor: Mapping[str, Any]) -> bool:
    platform = descriptor.get("platform")
    return "artifactType" in descriptor and isinstance(platform, dict) and platform.get("os") == "unknown"
