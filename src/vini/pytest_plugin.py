"""pytest plugin: a network as a test fixture."""
