"""Entry point of `python -m encodax`."""

from encodax.cli.main import main

if __name__ == "__main__":
    main()
