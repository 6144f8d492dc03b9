"""Bills of materials of an image: SPDX 2.3 and CycloneDX 1.6, both as JSON, through those formats' own libraries.

The same image gives the same document: its time is the image's, its number made from the identity.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from boxwright.app.inventory import ALPINE, BUILT, DEBIAN, Component, Inventory, inventory_of
from boxwright.model.digest import digest_of, hex_of
from boxwright.model.image import Image
from boxwright.store.store import Store

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

FORMATS = ("spdx", "cyclonedx")
TOOL = "boxwright"


def bill_of(image: Image, store: Store, form: str, name: str) -> str:
    """The document of a format, as JSON. `name` is what the image is called."""
    inventory = inventory_of(image, store)
    return _spdx(image, inventory, name) if form == "spdx" else _cyclonedx(image, inventory, name)


def package_url(component: Component) -> str:
    """The package URL (purl-spec): deb, apk, or generic for what was built here."""
    name, version = quote(component.package, safe=""), quote(component.version, safe="")
    architecture = f"?arch={component.architecture}" if component.architecture else ""
    if component.kind == DEBIAN:
        return f"pkg:deb/debian/{name}@{version}{architecture}"
    if component.kind == ALPINE:
        return f"pkg:apk/alpine/{name}@{version}{architecture}"
    return f"pkg:generic/{name}@{version}"


def _remainders(inventory: Inventory) -> list[tuple[str, str]]:
    """What no package has: for each step that made such files its title and the paths, and those of nobody."""
    found = [
        (f"files of the step: {maker.title}", "\n".join(f"/{path}" for path in paths))
        for maker, paths in sorted(inventory.by_steps().items())
    ]
    unowned = inventory.unowned()
    return [*found, ("files that no package owns", "\n".join(f"/{path}" for path in unowned))] if unowned else found


def _number(image: Image, inventory: Inventory) -> UUID:
    """Of the image and what is said of its packages: what is said may change where the image does not."""
    from uuid import NAMESPACE_URL, uuid5

    return uuid5(NAMESPACE_URL, f"{image.identity} {digest_of(repr(inventory.components).encode())}")


def _created(image: Image) -> datetime:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(max(image.created, 0), UTC)


def _notes(component: Component) -> str:
    lines = [f"identity: {component.identity}"] if component.identity else []
    lines += [f"patch: {name}: {reason}" for name, reason in component.patches]
    lines += [f"reason: {component.reason}"] if component.reason else []
    return "\n".join(lines)


def _spdx(image: Image, inventory: Inventory, name: str) -> str:
    from spdx_tools.spdx.jsonschema.document_converter import DocumentConverter
    from spdx_tools.spdx.model.actor import Actor, ActorType
    from spdx_tools.spdx.model.document import CreationInfo, Document
    from spdx_tools.spdx.model.relationship import Relationship, RelationshipType

    created = _created(image).replace(tzinfo=None)
    namespace = f"https://spdx.org/spdxdocs/{TOOL}-{hex_of(image.identity)}-{_number(image, inventory).hex}"
    creators = [Actor(ActorType.TOOL, TOOL)]
    document = Document(CreationInfo("SPDX-2.3", "SPDXRef-DOCUMENT", name, namespace, creators, created))
    document.packages = [_spdx_image(image, name)]
    document.relationships = [Relationship("SPDXRef-DOCUMENT", RelationshipType.DESCRIBES, "SPDXRef-image")]
    references = {component.name: f"SPDXRef-{_reference(component.name)}" for component in inventory.components}
    for component in inventory.components:
        document.packages.append(_spdx_package(component, references[component.name]))
        contains = Relationship("SPDXRef-image", RelationshipType.CONTAINS, references[component.name])
        document.relationships.append(contains)
    for user, used in _dependencies(inventory):
        document.relationships.append(Relationship(references[user], RelationshipType.DEPENDS_ON, references[used]))
    for number, (title, paths) in enumerate(_remainders(inventory)):
        document.packages.append(_spdx_remainder(f"SPDXRef-files-{number}", title, paths))
        document.relationships.append(
            Relationship("SPDXRef-image", RelationshipType.CONTAINS, f"SPDXRef-files-{number}")
        )
    return _json(DocumentConverter().convert(document))


def _spdx_image(image: Image, name: str) -> Any:  # noqa: ANN401 - the library is imported late
    from spdx_tools.spdx.model.checksum import Checksum, ChecksumAlgorithm
    from spdx_tools.spdx.model.package import Package, PackagePurpose
    from spdx_tools.spdx.model.spdx_no_assertion import SpdxNoAssertion

    return Package(
        "SPDXRef-image",
        name,
        SpdxNoAssertion(),
        version=str(image.identity),
        files_analyzed=False,
        checksums=[Checksum(ChecksumAlgorithm.SHA256, hex_of(image.identity))],
        primary_package_purpose=PackagePurpose.CONTAINER,
    )


def _spdx_package(component: Component, reference: str) -> Any:  # noqa: ANN401
    from spdx_tools.spdx.model.package import ExternalPackageRef, ExternalPackageRefCategory, Package
    from spdx_tools.spdx.model.spdx_no_assertion import SpdxNoAssertion

    url = ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", package_url(component))
    licence = licence_expression(component.licence)
    return Package(
        reference,
        component.package,
        _download(component) or SpdxNoAssertion(),
        version=component.version,
        files_analyzed=False,
        source_info=component.source or None,
        license_concluded=SpdxNoAssertion(),
        license_declared=licence if licence is not None else SpdxNoAssertion(),
        license_comment=component.licence if licence is None and component.licence else None,
        copyright_text=SpdxNoAssertion(),
        comment=_notes(component) or None,
        external_references=[url],
    )


def _spdx_remainder(reference: str, title: str, paths: str) -> Any:  # noqa: ANN401
    from spdx_tools.spdx.model.package import Package, PackagePurpose
    from spdx_tools.spdx.model.spdx_no_assertion import SpdxNoAssertion

    return Package(
        reference,
        " ".join(title.split()),
        SpdxNoAssertion(),
        files_analyzed=False,
        comment=paths,
        primary_package_purpose=PackagePurpose.OTHER,
    )


def licence_expression(text: str) -> Any:  # noqa: ANN401
    """A licence as SPDX writes it; None where `text` is no SPDX expression."""
    from license_expression import ExpressionError, get_spdx_licensing

    if not text:
        return None
    licensing = get_spdx_licensing()
    try:
        return licensing.parse(text, validate=True)
    except ExpressionError:
        return None


def _download(component: Component) -> str:
    """Where the source of a package that was built here is from, where that is an address."""
    found = component.source.partition(", ")[0] if component.kind == BUILT else ""
    return found if re.match(r"https?://[^\s]+$", found) else ""


def _reference(name: str) -> str:
    """A name as an SPDX id: letters, digits, dots and hyphens; what is lost is told apart by a number of its own."""
    import zlib

    clean = re.sub(r"[^A-Za-z0-9.-]", "-", name)
    return clean if clean == name else f"{clean}-{zlib.crc32(name.encode()):08x}"


def _dependencies(inventory: Inventory) -> list[tuple[str, str]]:
    """Which component depends on which, by whole names."""
    by_name: dict[str, str] = {}
    for component in inventory.components:
        by_name[component.package] = by_name[component.name] = component.name
    return [
        (component.name, by_name[used])
        for component in inventory.components
        for used in dict.fromkeys(component.depends)
        if by_name.get(used, component.name) != component.name
    ]


def _cyclonedx(image: Image, inventory: Inventory, name: str) -> str:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component as Part
    from cyclonedx.model.component import ComponentType
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    whole = Part(
        name=name,
        type=ComponentType.CONTAINER,
        bom_ref="image",
        version=str(image.identity),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=hex_of(image.identity))],
    )
    parts = {component.name: _cyclonedx_part(component) for component in inventory.components}
    properties = [
        Property(name=f"{TOOL}:{title}", value=path)
        for title, paths in _remainders(inventory)
        for path in paths.split("\n")
    ]
    bom = Bom(components=parts.values(), serial_number=_number(image, inventory))
    bom.metadata.timestamp = _created(image)
    bom.metadata.component = whole
    bom.metadata.tools.components.add(Part(name=TOOL, type=ComponentType.APPLICATION, bom_ref=TOOL))
    whole.properties.update(properties)
    bom.register_dependency(whole, parts.values())
    needed = _dependencies(inventory)
    for user, part in parts.items():
        bom.register_dependency(part, [parts[used] for one, used in needed if one == user])
    return str(make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)) + "\n"


def _cyclonedx_part(component: Component) -> Any:  # noqa: ANN401 - the library is imported late
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component as Part
    from cyclonedx.model.component import ComponentType, Patch, PatchClassification, Pedigree
    from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
    from packageurl import PackageURL

    expression = licence_expression(component.licence)
    licences: list[Any] = []
    if expression is not None:
        licences = [LicenseExpression(str(expression))]
    elif component.licence:
        licences = [DisjunctiveLicense(name=component.licence)]
    patches = [Patch(type=PatchClassification.UNOFFICIAL) for _ in component.patches]
    notes = {"identity": component.identity, "source": component.source, "reason": component.reason}
    properties = [Property(name=f"{TOOL}:{key}", value=value) for key, value in notes.items() if value]
    properties += [Property(name=f"{TOOL}:patch:{name}", value=reason) for name, reason in component.patches]
    return Part(
        name=component.package,
        type=ComponentType.LIBRARY,
        bom_ref=component.name,
        version=component.version,
        licenses=licences,
        purl=PackageURL.from_string(package_url(component)),
        properties=properties,
        pedigree=Pedigree(patches=patches) if patches else None,
    )


def _json(value: object) -> str:
    import json

    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
