"""Rules in the network of an instance, by nft(8): what its program can neither see nor change."""

from __future__ import annotations

import os
import shutil
import subprocess

from boxwright.errors import BoxwrightError, MachineError

RULES = "rules.nft"
"""The file in an instance's directory."""

_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"


def require_nft(name: str) -> None:
    """Raises BoxwrightError `deploy.engine-lacks` where nft is not there."""
    if _find("nft") is None:
        message = f"the rules of the network {name} need the program nft"
        raise BoxwrightError("deploy.engine-lacks", message, hint="apt-get install nftables")


def load_rules(namespace: str, text: str) -> None:
    """Put them into the network namespace at this path, all or none. Raises MachineError `network.rules`."""
    nsenter, nft = _find("nsenter"), _find("nft")
    if nsenter is None or nft is None:
        raise MachineError("network.rules", "the program nft is missing", hint="apt-get install nftables")
    done = subprocess.run(
        [nsenter, f"--net={namespace}", nft, "-f", "-"], input=text.encode(), capture_output=True, check=False
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise MachineError("network.rules", f"the rules of a network can't be set: {said}")


def write_rules(path: str, text: str) -> None:
    """Keep what an instance is given each time that it starts."""
    if text:
        with open(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w", encoding="ascii"
        ) as file:
            file.write(text)


def read_rules(path: str) -> str:
    """What was kept there; empty where nothing was."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _find(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=_PATH)
