"""Benchmarks: what VINI costs on this machine, beside peers in the same run (docs/reference/benchmarks.md)."""
