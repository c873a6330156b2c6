"""VINI: a network of your own, inside the real one."""

__version__ = "0.1.0"
