"""The bundle frontend: bundle.yaml, what is said of a bundle beside its files."""
