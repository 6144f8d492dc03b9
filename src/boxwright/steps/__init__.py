"""One file for each kind of step: its key and how it is run."""
