"""What is kept elsewhere: OCI registries."""
