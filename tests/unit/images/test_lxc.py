"""The configuration of LXC that an image brings: one line for each thing that it says."""

from __future__ import annotations

import pytest

from boxwright.errors import BoxwrightError
from boxwright.images.facts import TreeFacts
from boxwright.images.lxc import meta_files
from boxwright.model.image import ImageConfig
from tests.unit.images.directory_reader import image_of

HOOK = "\nlxc.hook.pre-start = /evil"


def configuration(config: ImageConfig) -> str:
    return meta_files(image_of(config), TreeFacts(""), "x")["config"]


@pytest.mark.parametrize(
    "config",
    [
        ImageConfig("amd64", cmd=("sh", "-c", f"true{HOOK}")),
        ImageConfig("amd64", entrypoint=(f"true{HOOK}",)),
        ImageConfig("amd64", workdir=f"/srv{HOOK}"),
        ImageConfig("amd64", stop_signal=f"SIGTERM{HOOK}"),
    ],
)
def test_nothing_of_an_image_is_a_line_of_its_own(config: ImageConfig) -> None:
    """LXC runs what a hook names, on the host and as root."""
    with pytest.raises(BoxwrightError) as caught:
        configuration(config)
    assert caught.value.code == "output.lxc"


@pytest.mark.parametrize("config", [
    ImageConfig("amd64", env=((f"A{HOOK}", "b"), ("C", f"d{HOOK}"), ("E", "f"))),
    ImageConfig(f"amd64{HOOK}", env=(("E", "f"),)),
])  # fmt: skip
def test_what_no_line_holds_is_left_out(config: ImageConfig) -> None:
    text = configuration(config)
    assert "hook" not in text
    assert "lxc.environment = E=f\n" in text
