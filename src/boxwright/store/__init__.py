"""Everything kept on this machine."""
