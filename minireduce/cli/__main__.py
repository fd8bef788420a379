"""`python -m minireduce.cli`: the command without its console script."""

from minireduce.cli.entry import main

main()
