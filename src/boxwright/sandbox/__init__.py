"""Mounts, namespaces and limits, and the launcher that makes them."""
