"""Images from layouts and archives: what is read, and that all of it is verified."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from boxwright.errors import FetchError
from boxwright.model.image import Healthcheck, Port
from boxwright.sources.imageconfig import parse_config
from boxwright.sources.oci import image_config, import_image

PLATFORM = "linux/amd64"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def layer(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.gid = len(data), os.geteuid(), os.getegid()
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


LAYERS = [
    layer({"a": b"1", "b": b"1", "d/old": b"1"}),
    layer({"a": b"2", ".wh.b": b"", "d/.wh..wh..opq": b"", "d/n": b""}),
]


class Layout:
    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "blobs/sha256").mkdir(parents=True)
        (root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def blob(self, data: bytes, **more: Any) -> dict[str, Any]:
        name = hashlib.sha256(data).hexdigest()
        (self.root / "blobs/sha256" / name).write_bytes(data)
        return {"digest": f"sha256:{name}", "size": len(data), **more}

    def document(self, value: object, **more: Any) -> dict[str, Any]:
        return self.blob(json.dumps(value).encode(), **more)

    def image(self, architecture: str = "amd64", **more: Any) -> dict[str, Any]:
        kind = "application/vnd.oci.image.layer.v1.tar+gzip"
        layers = [self.blob(gzip.compress(data), mediaType=kind) for data in LAYERS]
        config = self.document({"os": "linux", "architecture": architecture, "config": {"Env": ["A=b=c"]}})
        return self.document({"config": config, "layers": layers}, mediaType=MANIFEST, **more)

    def index(self, *manifests: dict[str, Any]) -> Path:
        (self.root / "index.json").write_text(json.dumps({"manifests": manifests}))
        return self.root


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    directory = tmp_path / "target"
    directory.mkdir()
    return directory


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def refused(code: str, *arguments: Any) -> FetchError:
    with pytest.raises(FetchError) as caught:
        import_image(*arguments)
    assert caught.value.code == code
    return caught.value


FLAT = {"a": b"2", "d/n": b""}


def test_layers_become_one_tree(layout: Layout, target: Path) -> None:
    descriptor = layout.image()
    image = import_image("oci", str(layout.index(descriptor)), str(target), PLATFORM)
    assert contents(target) == FLAT
    assert (image.digest, image.layers, image.config.env) == (descriptor["digest"], 2, (("A", "b=c"),))
    assert target.stat().st_mtime == 0


def test_an_archive_of_it(layout: Layout, target: Path, tmp_path: Path) -> None:
    layout.index(layout.image())
    with tarfile.open(tmp_path / "image.tar", "w") as archive:
        archive.add(layout.root, ".")
    import_image("oci-archive", str(tmp_path / "image.tar"), str(target), PLATFORM)
    assert contents(target) == FLAT


def test_platform_from_an_index_in_an_index(layout: Layout, target: Path) -> None:
    arm = layout.image("arm64", platform={"os": "linux", "architecture": "arm64"})
    own = layout.image(platform={"os": "linux", "architecture": "amd64"})
    attestation = layout.document({}, platform={"os": "unknown", "architecture": "unknown"})
    inner = layout.document({"manifests": [arm, own, attestation]}, mediaType=INDEX)
    root = str(layout.index(inner))
    assert import_image("oci", root, str(target), PLATFORM).digest == own["digest"]
    assert image_config("oci", root, "linux/arm64")[0].architecture == "arm64"
    assert "linux/arm64" in refused("oci.no-platform", "oci", root, str(target), "linux/s390x").hint


def test_tags(layout: Layout, target: Path) -> None:
    key = "org.opencontainers.image.ref.name"
    one = layout.image(annotations={key: "one"})
    other = layout.document({"config": layout.document({}), "layers": []}, mediaType=MANIFEST, annotations={key: "two"})
    root = str(layout.index(one, other))
    assert image_config("oci", f"{root}:one", PLATFORM)[1] == one["digest"]
    assert "one, two" in refused("oci.ambiguous", "oci", root, str(target), PLATFORM).hint
    assert "one, two" in refused("oci.no-tag", "oci", f"{root}:three", str(target), PLATFORM).hint


@pytest.mark.parametrize("which", range(4))
def test_every_blob_is_verified(layout: Layout, target: Path, which: int) -> None:
    root = str(layout.index(layout.image()))
    blob = sorted((layout.root / "blobs/sha256").iterdir())[which]
    data = blob.read_bytes()
    blob.write_bytes(data[:20].replace(b"linux", b"Linux") + b" " + data[20:])
    with pytest.raises(FetchError) as caught:
        import_image("oci", root, str(target), PLATFORM)
    assert caught.value.code in ("oci.digest", "unpack.damaged")
    blob.write_bytes(data + b"\0")
    refused("oci.digest", "oci", root, str(target), PLATFORM)
    blob.unlink()
    refused("oci.missing", "oci", root, str(target), PLATFORM)


@pytest.mark.parametrize("digest", ["sha256:../../../etc/passwd", "sha512:" + "0" * 128, None, 7, "sha256:" + "A" * 64])
def test_digests_that_are_none(layout: Layout, target: Path, digest: object) -> None:
    refused("oci.bad-image", "oci", str(layout.index({"digest": digest})), str(target), PLATFORM)


def test_links_out_of_a_layout_are_not_read(layout: Layout, target: Path, tmp_path: Path) -> None:
    descriptor = layout.image()
    blob = layout.root / "blobs" / descriptor["digest"].replace(":", "/")
    blob.rename(tmp_path / "elsewhere")
    blob.symlink_to(tmp_path / "elsewhere")
    refused("oci.missing", "oci", str(layout.index(descriptor)), str(target), PLATFORM)


def docker_archive(path: Path, *, wrong: bool = False) -> Path:
    diff_ids = ["sha256:" + hashlib.sha256(data + (b"x" if wrong else b"")).hexdigest() for data in LAYERS]
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": diff_ids}}).encode()
    manifest = [{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["1/layer.tar", "2/layer.tar"]}]
    files = {"c.json": config, "1/layer.tar": LAYERS[0], "2/layer.tar": LAYERS[1]}
    path.write_bytes(layer({**files, "manifest.json": json.dumps(manifest).encode()}))
    return path


def test_docker_archive(tmp_path: Path, target: Path) -> None:
    path = docker_archive(tmp_path / "image.tar")
    import_image("docker-archive", str(path), str(target), PLATFORM)
    assert contents(target) == FLAT
    refused("oci.no-tag", "docker-archive", f"{path}:b:1", str(target), PLATFORM)


def test_docker_archive_is_verified(tmp_path: Path, target: Path) -> None:
    path = docker_archive(tmp_path / "image.tar", wrong=True)
    refused("oci.digest", "docker-archive", str(path), str(target), PLATFORM)


def test_no_archive_at_all(tmp_path: Path, target: Path) -> None:
    (tmp_path / "image.tar").write_bytes(b"nothing" * 1000)
    refused("oci.bad-image", "oci-archive", str(tmp_path / "image.tar"), str(target), PLATFORM)
    refused("oci.missing", "oci", str(tmp_path / "nowhere"), str(target), PLATFORM)


def test_configuration() -> None:
    config = parse_config(
        json.dumps(
            {
                "architecture": "arm64",
                "variant": "v8",
                "config": {
                    "Entrypoint": ["/e"],
                    "Cmd": None,
                    "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "8000-8001": {}},
                    "Volumes": {"/b": {}, "/a": {}},
                    "WorkingDir": "/w",
                    "User": "1:2",
                    "Labels": {"k": "v", "dev.boxwright.ports": "8080:80/tcp 53:53/udp 9"},
                    "StopSignal": "SIGINT",
                    "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5, "Retries": 3},
                    "Shell": ["/bin/bash", "-c"],
                    "OnBuild": ["RUN x"],
                },
            }
        ).encode()
    )
    assert config.exposed == (Port(53, "udp"), Port(80), Port(8000), Port(8001))
    assert config.published == (Port(80, "tcp", 8080), Port(53, "udp", 53), Port(9))
    assert config.volumes == ("/a", "/b")
    assert config.labels == (("k", "v"),)
    assert config.healthcheck == Healthcheck(("CMD", "true"), interval=5, retries=3)
    assert (config.entrypoint, config.cmd, config.shell) == (("/e",), None, ("/bin/bash", "-c"))
    assert (config.workdir, config.user, config.variant, config.stop_signal) == ("/w", "1:2", "v8", "SIGINT")
    assert config.onbuild == ("RUN x",)


@pytest.mark.parametrize(
    "config",
    [
        b"[]",
        b"{",
        b'{"config": 3}',
        b'{"config": {"Env": "A=b"}}',
        b'{"config": {"Cmd": [1]}}',
        b'{"config": {"ExposedPorts": {"99999/tcp": {}}}}',
        b'{"config": {"Healthcheck": {"Test": ["x"], "Retries": -1}}}',
    ],
)
def test_configurations_that_are_none(config: bytes) -> None:
    with pytest.raises(FetchError) as caught:
        parse_config(config)
    assert caught.value.code == "oci.bad-image"
