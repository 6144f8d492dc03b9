"""Images from registries, by skopeo: its credentials files, its certificates, its transports."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence

from boxwright.errors import FetchError
from boxwright.model.digest import Digest, digest_of
from boxwright.model.image import ImageConfig
from boxwright.sources.blobs import DirectoryFiles
from boxwright.sources.imageconfig import Json, json_object, objects, parse_config
from boxwright.sources.oci import ImportedImage, find_layout, flatten
from boxwright.sources.process import Finished, never, run_program
from boxwright.sources.reference import RegistryName, parse_registry_name

_NOT_FOUND = ("manifest unknown", "name unknown", "not found", "status 404", "was deleted or has expired")
_REFUSED = ("unauthorized", "authentication required", "denied", "status 401", "status 403", "invalid username")
_OTHER_PLATFORM = ("no image found in manifest list", "no image found in image index")


def resolve_digest(name: str, *, cancelled: Callable[[], bool] = never) -> Digest:
    """The digest of what `name` names today: of an index, where it is one. The caller remembers it."""
    reference = parse_registry_name(name)
    if reference.digest:
        return Digest(reference.digest)
    return digest_of(_raw_manifest(reference, cancelled))


def inspect_platforms(name: str, *, cancelled: Callable[[], bool] = never) -> tuple[Json, ...]:
    """The descriptors of an index, empty for a single image."""
    manifest = json_object(_raw_manifest(parse_registry_name(name), cancelled), "the manifest")
    return tuple(objects(manifest, "manifests"))


def pull(
    name: str,
    destination_directory: str,
    platform: str,
    *,
    output: Callable[[bytes], None] | None = None,
    cancelled: Callable[[], bool] = never,
    scratch_directory: str | None = None,
) -> ImportedImage:
    """Fetch an image of a platform (OS/ARCHITECTURE[/VARIANT]) and flatten it into an empty directory.

    `name` may end in ``@sha256:...``: then it is that very content. The copy in between lies in `scratch_directory`.
    """
    reference = parse_registry_name(name)
    layout = tempfile.mkdtemp(prefix="boxwright-pull-", dir=scratch_directory)
    try:
        system, _, rest = platform.partition("/")
        architecture, _, variant = rest.partition("/")
        options = [f"--override-os={system}", f"--override-arch={architecture}"]
        options += [f"--override-variant={variant}"] if variant else []
        argv = ["skopeo", *options, "--insecure-policy", "copy", "--quiet", *_tls(reference, "--src-tls-verify=false")]
        argv += [f"docker://{_skopeo_name(reference)}", f"oci:{layout}:image"]
        finished = run_program(argv, package="skopeo", output=output or _unheard, cancelled=cancelled)
        if finished.status:
            raise _failed(reference, finished, platform)
        files = DirectoryFiles(layout)
        return flatten(files, find_layout(files, platform, "image"), destination_directory)
    finally:
        shutil.rmtree(layout)


def _unheard(data: bytes) -> None:
    """Nobody listens."""


def _raw_manifest(reference: RegistryName, cancelled: Callable[[], bool]) -> bytes:
    argv = ["skopeo", "inspect", "--raw", *_tls(reference, "--tls-verify=false"), f"docker://{_skopeo_name(reference)}"]
    finished = run_program(argv, package="skopeo", cancelled=cancelled)
    if finished.status:
        raise _failed(reference, finished, "")
    return finished.stdout


def _skopeo_name(reference: RegistryName) -> str:
    """Without the tag where there is a digest: skopeo takes one of them."""
    return str(reference)


def _tls(reference: RegistryName, option: str) -> Sequence[str]:
    """Loopback registries may speak plain HTTP, as Docker has it; HTTPS is tried first all the same."""
    return (option,) if reference.on_loopback else ()


def _failed(reference: RegistryName, finished: Finished, platform: str) -> FetchError:
    said = finished.tail.splitlines()[-1] if finished.tail else f"skopeo ended with {finished.status}"
    text = said.lower()
    if platform and any(words in text for words in _OTHER_PLATFORM):
        return FetchError("oci.no-platform", f"{reference} is not there for {platform}", hint=said)
    if any(words in text for words in _REFUSED):
        return FetchError(
            "registry.unauthorized",
            f"{reference.registry} refuses {reference}: {said}",
            hint=f"is the name right? Else: skopeo login {reference.registry}",
        )
    if any(words in text for words in _NOT_FOUND):
        return FetchError(
            "registry.not-found", f"{reference} is not there: {said}", hint="are its name and its tag right?"
        )
    return FetchError(
        "registry.unreachable",
        f"{reference} could not be fetched: {said}",
        hint="can this machine reach the registry? A name without a registry means Docker's own",
    )


def remote_config(name: str, platform: str, *, cancelled: Callable[[], bool] = never) -> ImageConfig:
    """The configuration of a registry's image for a platform (OS/ARCHITECTURE[/VARIANT]); its layers are not read."""
    reference = parse_registry_name(name)
    system, architecture, *variant = platform.split("/")
    argv = ["skopeo", f"--override-os={system}", f"--override-arch={architecture}"]
    argv += [f"--override-variant={variant[0]}"] if variant else []
    argv += [
        "inspect",
        "--raw",
        "--config",
        *_tls(reference, "--tls-verify=false"),
        f"docker://{_skopeo_name(reference)}",
    ]
    finished = run_program(argv, package="skopeo", cancelled=cancelled)
    if finished.status:
        raise _failed(reference, finished, platform)
    return parse_config(finished.stdout)
