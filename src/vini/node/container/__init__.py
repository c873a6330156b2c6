"""Containers of slivers (OCI runtime specification 1.0, run by crun): what tenants can't get out of."""
