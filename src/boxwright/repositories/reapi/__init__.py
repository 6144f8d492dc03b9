"""The Remote Execution API v2: a shared cache of actions, and builds on other machines."""
