"""Two channels on one network: a cohort job with a leg on each, and one channel goes away for a while."""

from typing import Any

import pytest

from consent.models import Requester
from gateway.drills.fabric_rig import fabric
from tests.analysis.cohort import NORTH, a_cohort_spans_two_channels


@pytest.mark.django_db(transaction=True)
def test_a_leg_waits_for_its_channel_and_the_others_go_on(
    helix: Requester, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fabric(organisations=2, channels=[NORTH]) as rig:
        a_cohort_spans_two_channels(rig, helix, settings, monkeypatch)
