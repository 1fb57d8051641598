"""``python -m infersdk``: the same as the command ``infersdk``."""

from infersdk.cli import main

if __name__ == "__main__":
    main()
