"""The client of Consent Gateway: sign in with a key, ask, run jobs, read what patients gave."""

from consentctl.gateway import Gateway, Problem
from consentctl.keys import Key

__all__ = ["Gateway", "Key", "Problem"]
