"""Binary repositories: signed records and content in a dumb object space (docs/repositories.md)."""
