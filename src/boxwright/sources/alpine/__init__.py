"""Base systems of Alpine Linux, made without its package manager (package format 2)."""
