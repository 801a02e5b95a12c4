#!/usr/bin/env python
"""The commands of Consent Gateway: `python manage.py help` lists them."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
    try:
        from django.core.management import execute_from_command_line
    except ModuleNotFoundError:
        sys.exit(
            "Django is not installed for this Python: run `make setup`, then .venv/bin/python manage.py."
        )

    execute_from_command_line(sys.argv)
