"""The command line: one file for each subcommand, and the one place that prints."""
