"""Manifests of ACIs that are made from an image's configuration."""

from __future__ import annotations

import json

import msgspec
import pytest

from boxwright.frontends.container.content import ImageManifest
from boxwright.images.aci import manifest_of
from boxwright.model.digest import digest_of
from boxwright.model.image import Image, ImageConfig, Port, Snapshot
from boxwright.model.tree import Manifest

CONFIG = ImageConfig(
    "amd64",
    env=(("A", "b"),),
    entrypoint=("/bin/shop",),
    cmd=("-x",),
    workdir="/srv",
    user="web",
    exposed=(Port(80), Port(53, "udp")),
    volumes=("/srv/data", "/"),
)


@pytest.mark.parametrize("config", [CONFIG, ImageConfig("arm64")])
@pytest.mark.parametrize("name", ["shop:1.2", "Sys_Admin/Web-:latest", "", "localhost:5000/shop"])
def test_it_is_what_the_specification_takes(config: ImageConfig, name: str) -> None:
    digest = digest_of(b"")
    image = Image(digest, config, Snapshot(digest, (), Manifest(digest, digest), 0), 0, 0)
    manifest = msgspec.json.decode(json.dumps(manifest_of(image, name)), type=ImageManifest)
    assert (manifest.app is not None) == (config is CONFIG)
    if manifest.app is not None:
        assert manifest.app.exec == ("/bin/shop", "-x")
        assert (manifest.app.user, manifest.app.group) == ("web", "web")
        assert {port.port for port in manifest.app.ports} == {80, 53}
