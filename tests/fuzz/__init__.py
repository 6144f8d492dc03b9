"""Fuzzing with atheris (libFuzzer for Python): `python -m tests.fuzz TARGET --seconds N`."""
