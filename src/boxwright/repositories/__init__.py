"""Everything kept elsewhere: binary hosts, registries, Remote Execution API servers."""
