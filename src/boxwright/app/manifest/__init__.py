"""Builds of manifests: what they ask of the disk, of servers and of containers, and how they are run."""
