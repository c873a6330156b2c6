"""`python -m vini.cli`; people come by `python -m vini`."""

from vini.cli import main

main()
