"""Facts: what a small shell script finds out in a container of an image, and on this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from boxwright.errors import BoxwrightError
from boxwright.events import Event
from boxwright.model.graph import Graph, Node
from boxwright.model.image import ImageConfig, Snapshot
from boxwright.model.span import Span
from boxwright.model.step import Run
from boxwright.ports import Resolver
from boxwright.store.store import Store

FILE = "boxwright-facts"
NUMBERS = ("memory", "cpus")
"""Facts that are numbers; memory in MiB."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SECONDS = 30


def toolbox() -> Path:
    """The directory with the program `facts`, which finds them out wherever it is mounted."""
    return Path(__file__).with_name("toolbox")


def script() -> str:
    """What finds them out (POSIX sh)."""
    return (toolbox() / "facts.sh").read_text(encoding="utf-8")


def parse_facts(text: str) -> dict[str, object]:
    """NAME=VALUE lines."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name: int(value) if name in NUMBERS and value.isdecimal() else value for name, _, value in pairs}


def facts_graph(image: str, resolver: Resolver, platform: str, where: Span) -> Graph:
    """The graph whose result is the image with its facts in a file; nothing of it gets into anything else."""
    base = resolver.base(image, platform, where)
    path = dict(base.config.env).get("PATH", _PATH)
    argv = ("/bin/sh", "-c", f"exec >/{FILE}\n{script()}")
    step = Run(argv, (("PATH", path), ("LC_ALL", "C")), network="none")
    nodes = (
        Node(base.step, (), f"image {image}", "facts", where, base.shown),
        Node(step, (0,), "gather facts", "facts", where),
    )
    return Graph(nodes, 1, ImageConfig(platform.split("/")[1]))


def image_facts(
    image: str,
    resolver: Resolver,
    platform: str,
    where: Span,
    run: Callable[[Graph, Callable[[Event], None]], Snapshot],
    store: Store,
) -> Mapping[str, object]:
    """The facts of an image; found out once for each content. `run` makes a graph's target."""
    snapshot = run(facts_graph(image, resolver, platform, where), lambda _: None)
    path = store.physical(snapshot, FILE)
    if path is None:
        raise BoxwrightError("store.gone", f"the facts of {image} were removed while they were needed")
    return parse_facts(Path(path).read_text(encoding="utf-8", errors="replace"))


def host_facts() -> Mapping[str, object]:
    """The facts of this machine."""
    done = subprocess.run(
        ["/bin/sh", "-c", script()],
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        timeout=_SECONDS,
        check=False,
        env={"PATH": _PATH, "LC_ALL": "C"},
    )
    return parse_facts(done.stdout)
