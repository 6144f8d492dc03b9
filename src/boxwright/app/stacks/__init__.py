"""Stacks: definitions, builds, engines and deployments put together."""
