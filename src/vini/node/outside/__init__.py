"""Slivers' way to the world: what a node lets out, and what it writes down of it."""
