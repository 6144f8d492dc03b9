"""Keys, planner and scheduler."""
