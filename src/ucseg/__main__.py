"""`python -m ucseg` is `ucseg`."""

from ucseg.cli.main import main

if __name__ == "__main__":
    main()
