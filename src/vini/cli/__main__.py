"""`python -m vini.cli`."""

from vini.cli import main

main()
