"""`python -m minireduce.cli`: the command without its console script."""

from minireduce.cli.main import main

main()
