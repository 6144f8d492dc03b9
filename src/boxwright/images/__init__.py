"""Flat images: the deterministic tar and a writer for each format; `writers.write` is the one entry point."""
