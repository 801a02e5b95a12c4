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

    try:
        execute_from_command_line(sys.argv)
        sys.stdout.flush()
    except BrokenPipeError:
        try:
            print(flush=True)  # is it our own reader who left?
        except BrokenPipeError:  # it is: `head`, say, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at Python's end
            sys.exit(141)  # as a shell says of SIGPIPE; 1 is a command's own answer
        raise
