"""`python -m consentctl`."""

import sys

from consentctl.cli import main

sys.exit(main())
