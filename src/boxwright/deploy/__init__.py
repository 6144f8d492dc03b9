"""A stack compared with what runs: plan, apply, roll back."""
