"""The package frontend: pkg.yaml becomes a graph of BuildPackage steps."""
