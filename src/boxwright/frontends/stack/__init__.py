"""autopilot.yaml and Compose files become a stack."""
