"""Recipes, manifests, containers, packages and stacks: text becomes a graph."""
