"""Frozen values: the standard library only, no input and no output."""
