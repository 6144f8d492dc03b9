"""The container frontend: container.yaml, a list of tasks, becomes a graph that ends in an image."""
