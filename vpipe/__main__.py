"""`python -m vpipe`: the same as the `vpipe` command."""

from vpipe.cli.main import main

if __name__ == "__main__":
    main()
