"""What engines have in common that run stacks on this machine over the store's own layers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, suppress

from boxwright.app.lookup import find_image
from boxwright.app.stacks.images import KEPT
from boxwright.app.stacks.networks import StackNetworks
from boxwright.engines.deploy.directories import COPYING_SECONDS, DirectoryVolumes, unknown_volume
from boxwright.engines.documents import StackDirectory
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import NetworkSpec, VolumeSpec
from boxwright.store.images import Images
from boxwright.store.store import Store

SECRETS = "secrets"


class LocalStacks(DirectoryVolumes):
    """Images out of the store, networks of bridges, volumes and documents in directories."""

    def __init__(self, store: Store, directory: StackDirectory, volumes: str) -> None:
        self.store = store
        self.directory = directory
        self.networks = StackNetworks(directory)
        self.volumes = volumes

    def hosts(self) -> int:
        """One."""
        return 1

    def machine(self) -> str:
        """That of this machine."""
        return os.uname().machine

    def lock(self, stack: str, patience: float) -> AbstractContextManager[None]:
        """Held while a stack is changed."""
        return self.directory.lock(stack, patience)

    def copying(self, stack: str, patience: float = 0.0) -> AbstractContextManager[None]:
        """Held while its volumes are copied."""
        return self.directory.copying(stack, patience)

    def provide_image(self, identity: str, name: str) -> None:
        """It is run out of the store. Raises BoxwrightError `deploy.image` where a layer is missing."""
        for layer in find_image(self.store, identity).snapshot.layers:
            if not os.path.isdir(f"{self.store.home.layers}/{layer}"):
                hint = "run 'boxwright fsck --repair', then deploy again"
                raise BoxwrightError("deploy.image", f"a layer of the image {name} is gone", hint=hint)

    def makes_beside(self, network: NetworkSpec) -> bool:
        """An instance is put into its networks when it is made."""
        del network
        return False

    def drop_images(self, stack: str, identities: Sequence[str]) -> Collection[str]:
        """The names that kept them in the store; what nothing needs goes with the next collection."""
        images = Images(self.store)
        for name, image in images.listing():
            if name.startswith(f"{KEPT}{stack}:") and image.identity in identities:
                images.remove(name)
        return identities

    def create_network(self, stack: str, spec: NetworkSpec) -> None:
        """A bridge with its keeper."""
        self.networks.create(stack, spec)

    def delete_network(self, stack: str, name: str) -> None:
        """The keeper is ended."""
        self.networks.delete(stack, name)

    def create_volume(self, stack: str, spec: VolumeSpec) -> None:
        """Made by the first instance that mounts it, from what its image holds there."""

    def delete_volume(self, stack: str, name: str) -> None:
        """Remove it with its content and its snapshots."""
        with self.copying(stack, COPYING_SECONDS):
            shutil.rmtree(f"{self.volumes}/{stack}.{name}", ignore_errors=True)
            shutil.rmtree(self.snapshots_directory(stack, name), ignore_errors=True)

    def volume_directory(self, stack: str, volume: str) -> str:
        """Where a volume's files are. Raises BoxwrightError `volume.unknown`."""
        if volume not in self.volume_names(stack):
            raise unknown_volume(stack, volume)
        return f"{self.volumes}/{stack}.{volume}"

    def snapshots_directory(self, stack: str, volume: str) -> str:
        """Beside the volumes, where none of them can be called so."""
        return f"{self.volumes}/.snapshots/{stack}.{volume}"

    def volume_names(self, stack: str) -> tuple[str, ...]:
        """A volume of a stack is called ``STACK.NAME``."""
        return tuple(it.removeprefix(f"{stack}.") for it in entries(self.volumes) if it.startswith(f"{stack}."))

    def publish_names(self, stack: str, hosts: str) -> None:
        """One file serves all instances."""
        self.directory.write_hosts(stack, hosts)

    def read_document(self, stack: str, name: str) -> bytes | None:
        """What was written under a name."""
        return self.directory.read(stack, f"document-{name}")

    def write_document(self, stack: str, name: str, data: bytes | None) -> None:
        """Keep something under a name."""
        self.directory.write(stack, f"document-{name}", data)

    def write_documents(self, stack: str, documents: Mapping[str, bytes | None]) -> None:
        """Keep several things, or remove those that are None."""
        for name, data in documents.items():
            self.write_document(stack, name, data)

    def forget(self, stack: str, *, keep_secrets: bool) -> None:
        """Remove the documents of a stack that is no more."""
        secrets = self.read_document(stack, SECRETS) if keep_secrets else None
        self.directory.forget(stack)
        if secrets is not None:
            self.write_document(stack, SECRETS, secrets)


def entries(directory: str) -> tuple[str, ...]:
    """The names in a directory, sorted; none where it is not there."""
    with suppress(FileNotFoundError):
        return tuple(sorted(os.listdir(directory)))
    return ()
