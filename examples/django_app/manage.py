"""Django's commands: ``python manage.py check``, ``python manage.py infersdk list``."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run one."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
