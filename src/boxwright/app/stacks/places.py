"""What instances on this machine are given on its disk, and what such engines do without."""

from __future__ import annotations

import os
from collections.abc import Sequence

from boxwright.engines.lacking import pool_lacks, refuse_moving_address, restart_lacks
from boxwright.engines.nftrules import require_nft
from boxwright.engines.records import Mounted
from boxwright.engines.volumes import VolumeOption
from boxwright.errors import BoxwrightError
from boxwright.model.deployment import Desired, MountSpec, NewInstance

HOSTS = "/etc/hosts"


def one_host_lacks(engine: str, desired: Desired) -> tuple[str, ...]:
    """Placement, sizes of volumes and copies need an engine that has them. Raises `deploy.engine-lacks` without nft."""
    refuse_moving_address(engine, desired)
    for network in desired.networks:
        if network.allow or network.deny:
            require_nft(network.name)
    found = [f"{it.logical}: {engine} knows one host" for it in desired.instances if it.placement.on]
    found += [f"volume {it.name}: {engine} keeps to no size" for it in desired.volumes if it.size]
    found += [f"volume {it.name}: copies need other members" for it in desired.volumes if it.replicate > 1]
    found += pool_lacks(engine, desired)
    found += restart_lacks(desired)
    return tuple(dict.fromkeys(found))


def volume_option(stack: str, mount: MountSpec) -> VolumeOption:
    """A volume of a stack is called ``STACK.NAME``."""
    if mount.kind == "path":
        return VolumeOption(os.path.abspath(mount.source), mount.target, mount.read_only)
    return VolumeOption(f"{stack}.{mount.source}" if mount.kind == "volume" else "", mount.target, mount.read_only)


def write_files(place: str, new: NewInstance) -> tuple[Mounted, ...]:
    """Files of its own, which it sees read-only; on the host nobody else can reach them."""
    made: list[Mounted] = []
    if new.files:
        os.mkdir(f"{place}/files", 0o711)
    for number, (target, data, mode) in enumerate(new.files):
        path = f"{place}/files/{number}"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        os.chmod(path, mode)
        made.append(Mounted(path, target, read_only=True))
    return tuple(made)


def rewrite_file(mounts: Sequence[Mounted], instance: str, path: str, data: bytes) -> None:
    """Write a file in place: the instance has this very file mounted. Raises BoxwrightError `deploy.file`."""
    for mount in mounts:
        if mount.target == path:
            with open(mount.source, "r+b") as file:
                file.write(data)
                file.truncate()
            return
    raise BoxwrightError("deploy.file", f"{instance} was given no file {path}")
