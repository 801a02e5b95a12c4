"""Which channel a new patient is on: by her custodian, else the installation's own choice."""

from django.conf import settings
from django.utils.translation import gettext as _

from ledger.channels import named
from ledger.errors import InvalidInput


def known_channels() -> list[str]:
    """Every channel of this installation, home first."""
    return list(named(settings.LEDGER_URL, settings.LEDGER_CHANNELS))


def channel_for(custodian: str = "") -> str:
    """The channel for a patient of this custodian (`Patient.managingOrganization.reference`).

    Raises InvalidInput (`channel_unknown`) where the settings name a channel that is not configured: a
    patient never ends up elsewhere by a slip.
    """
    return check_channel(settings.PATIENT_CHANNELS.get(custodian, settings.PATIENT_CHANNEL))


def check_channel(channel: str) -> str:
    """The channel, if it is configured. Raises InvalidInput."""
    if channel not in known_channels():
        raise InvalidInput(_("This channel is not configured here."), code="channel_unknown")
    return channel
