"""The central of a testbed: one ASGI app over the store, and the nodes that dial it."""
