"""Manifests: one templated file that says how an application's image is provisioned and checked."""
