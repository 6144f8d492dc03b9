"""An LXD or Incus image as one tarball: metadata.yaml, templates/ and rootfs/ (LXD, doc/image-handling.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from boxwright.images.artifact import WrittenArtifact
from boxwright.images.facts import LXC_ARCHITECTURES, TreeFacts, facts_of
from boxwright.images.layer import Packing
from boxwright.images.paths import fresh_file
from boxwright.images.pipeline import Pipeline
from boxwright.images.streams import write_stream
from boxwright.images.tarheader import small_directory, small_file
from boxwright.images.tarstream import write_end, write_tree
from boxwright.model.image import Image
from boxwright.ports import TreeReader

_HOSTS = """\
127.0.0.1\tlocalhost
127.0.1.1\t{{ container.name }}
::1\tlocalhost ip6-localhost ip6-loopback
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
TEMPLATES = {
    "etc/hostname": ("hostname.tpl", "{{ container.name }}\n"),
    "etc/hosts": ("hosts.tpl", _HOSTS),
}


def write_lxd(
    image: Image,
    reader: TreeReader,
    destination: Path,
    name: str,
    packing: Packing,
    templates: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> WrittenArtifact:
    """Write it. `templates` are more of them than a system has: path in the instance, the template's name and text."""
    facts = facts_of(reader, image.snapshot)
    time = max(image.created, 0)
    made = {**_templates(facts), **templates}

    def produce(out: Pipeline) -> None:
        out.write(small_file("metadata.yaml", metadata_yaml(image, facts, name, made).encode(), time))
        out.write(small_directory("templates/", time))
        for template, text in sorted(made.values()):
            out.write(small_file(f"templates/{template}", text.encode(), time))
        write_tree(out, reader, image.snapshot, "rootfs/")
        write_end(out)

    with fresh_file(destination) as temporary, temporary.open("xb") as file:
        written = write_stream(file, produce, packing.compression, packing.level)
    return WrittenArtifact("lxd", destination, written.digest, written.size)


def _templates(facts: TreeFacts) -> dict[str, tuple[str, str]]:
    """The files that an instance gets with its own name in them: for systems, and only where they are there already."""
    if not facts.is_system:
        return {}
    return {path: made for path, made in TEMPLATES.items() if path in facts.paths or path == "etc/hostname"}


def metadata_yaml(image: Image, facts: TreeFacts, name: str, templates: Mapping[str, tuple[str, str]]) -> str:
    """The metadata. Strings are written as JSON writes them, which YAML reads alike."""
    architecture = LXC_ARCHITECTURES.get(image.config.architecture, image.config.architecture)
    lines = [f"architecture: {_text(architecture)}", f"creation_date: {max(image.created, 0)}"]
    lines.append("properties:")
    properties = properties_of(image, facts, name) | {"architecture": architecture}
    lines += [f"  {_text(key)}: {_text(properties[key])}" for key in sorted(properties)]
    lines.append("templates:" if templates else "templates: {}")
    for path in sorted(templates):
        lines += [f"  /{path}:", "    when: [create, copy, rename]", f"    template: {templates[path][0]}"]
    return "\n".join(lines) + "\n"


def properties_of(image: Image, facts: TreeFacts, name: str) -> dict[str, str]:
    """What `lxc image info` shows."""
    release = facts.release
    properties = {
        "description": description(image, facts, name),
        "name": name,
        "os": release.get("NAME", "").partition(" ")[0],
        "release": release.get("VERSION_CODENAME", "") or release.get("VERSION_ID", ""),
        "serial": datetime.fromtimestamp(max(image.created, 0), UTC).strftime("%Y%m%d_%H%M"),
        "variant": "system" if facts.is_system else "application",
        "dev.boxwright.identity": str(image.identity),
    }
    return {key: value for key, value in properties.items() if value}


def description(image: Image, facts: TreeFacts, name: str) -> str:
    """One line for people: the image's own label, or its name and what it is made of."""
    labels = dict(image.config.labels)
    given = labels.get("org.opencontainers.image.description") or labels.get("org.opencontainers.image.title")
    if given:
        return " ".join(given.split())
    base = facts.release.get("PRETTY_NAME", "")
    return f"{name or 'image'} ({base})" if base else name or "image"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=True)
