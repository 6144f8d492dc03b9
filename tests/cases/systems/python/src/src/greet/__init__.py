"""A package that greets."""
