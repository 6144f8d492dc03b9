"""A copy of a container's layer, for a new image."""

from __future__ import annotations

import os
import subprocess

from boxwright.errors import StoreError


def copy_layer(upper: str, destination: str) -> None:
    """Copy an overlay's upper directory, with its attributes and whiteouts.

    cp(1) keeps hard links, owners, times, devices and extended attributes, those of the overlay included, and shares
    blocks where the file system can.
    """
    command = ["cp", "--archive", "--reflink=auto", "--no-target-directory", "--", upper, destination]
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env=environment)
    if done.returncode:
        raise StoreError("commit.copy", f"the container's layer can't be copied: {done.stderr.strip()}")
