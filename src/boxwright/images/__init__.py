"""Flat images: the deterministic tar and a writer for each format."""
