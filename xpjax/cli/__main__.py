"""The command line as `python -m xpjax.cli`."""

from xpjax.cli import main

main()
