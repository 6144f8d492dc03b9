"""The JSON of an image's configuration."""

from __future__ import annotations

import json

from boxwright.images.config import Step, image_config
from boxwright.model.image import Healthcheck, ImageConfig, Port
from tests.unit.images.directory_reader import ZERO, image_of

FULL = ImageConfig(
    "arm",
    variant="v7",
    author="A. Body",
    env=(("PATH", "/bin"), ("B", "ü=1")),
    entrypoint=("/bin/sh", "-c"),
    cmd=(),
    workdir="/srv",
    user="app:app",
    exposed=(Port(53, "udp"),),
    published=(Port(80, "tcp", 8080), Port(9000)),
    volumes=("/data",),
    labels=(("a", "b"),),
    stop_signal="SIGQUIT",
    healthcheck=Healthcheck(("CMD", "true"), interval=5_000_000_000, retries=3),
    shell=("/bin/bash", "-c"),
    onbuild=("RUN true",),
)


def test_every_field() -> None:
    value = json.loads(image_config(image_of(FULL), [Step("boxwright", ZERO)]))
    assert value == {
        "architecture": "arm",
        "author": "A. Body",
        "config": {
            "Cmd": [],
            "Entrypoint": ["/bin/sh", "-c"],
            "Env": ["PATH=/bin", "B=ü=1"],
            "ExposedPorts": {"53/udp": {}, "80/tcp": {}, "9000/tcp": {}},
            "Healthcheck": {"Interval": 5_000_000_000, "Retries": 3, "Test": ["CMD", "true"]},
            "Labels": {"a": "b", "dev.boxwright.ports": "8080:80/tcp,9000/tcp"},
            "OnBuild": ["RUN true"],
            "Shell": ["/bin/bash", "-c"],
            "StopSignal": "SIGQUIT",
            "User": "app:app",
            "Volumes": {"/data": {}},
            "WorkingDir": "/srv",
        },
        "created": "2023-11-14T22:13:20Z",
        "history": [{"created": "2023-11-14T22:13:20Z", "created_by": "boxwright"}],
        "os": "linux",
        "rootfs": {"diff_ids": [ZERO], "type": "layers"},
        "variant": "v7",
    }


def test_nothing_given_nothing_said() -> None:
    text = image_config(image_of(), [Step("boxwright", ZERO)]).decode()
    assert '"config":{}' in text
    assert " " not in text
