"""A job over two channels on embedded ledgers; `tests/fabric/test_channels.py` has it on a real network."""

from typing import Any

import pytest

from consent.models import Patient, Requester
from gateway.analysis import services
from gateway.analysis.catalogue import find
from gateway.analysis.models import AIModel
from gateway.drills.rig import EmbeddedRig, folder
from ledger.audit.log import Actor
from ledger.client import HOME, Event
from ledger.errors import InvalidInput
from ledger.models import LedgerTransaction
from tests.analysis.cohort import NORTH, a_cohort_spans_two_channels
from tests.questions import ask

PCE = find("pce")
SOUTH = "south"


@pytest.mark.django_db(transaction=True)
def test_a_leg_waits_for_its_channel_and_the_others_go_on(
    helix: Requester, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with folder() as home, EmbeddedRig(home, [NORTH]) as rig:
        a_cohort_spans_two_channels(rig, helix, settings, monkeypatch)


# A model, channel by channel


def heard(channel: str, state: str = "approved") -> None:
    payload = {"model": PCE.digest(), "state": state}
    services.record_model_registered(Event(1, 0, "00" * 32, "ModelRegistered", payload, channel))


def submit(helix: Requester, *requests: str) -> set[str]:
    """The channels of the legs of a new job."""
    job = services.submit(
        requester=helix, model=PCE.digest(), purpose="TREAT", use=["HMB"], subjects=requests
    )
    return set(job.legs.values_list("channel", flat=True))


@pytest.mark.django_db
def test_a_model_serves_a_channel_once_that_channel_approved_it(
    helix: Requester, alice: Patient, settings: Any
) -> None:
    settings.LEDGER_CHANNELS = {NORTH: "embedded:///north"}
    bob = Patient.objects.create(name="Bob", record_id="bob-1", channel=NORTH)
    at_home, in_north = ask(helix, alice).pk, ask(helix, bob).pk
    model = services.register_model(model=PCE, provider=helix, by=Actor.system("command"))
    assert set(LedgerTransaction.objects.values_list("name", "channel")) == {
        ("RegisterModel", HOME), ("RegisterModel", NORTH),
    }  # fmt: skip
    heard(HOME)
    assert submit(helix, at_home) == {HOME}
    # Who is unknown goes with the others, and home alone waits for nobody.
    assert submit(helix, "nobody", at_home) == submit(helix, "nobody") == {HOME}
    with pytest.raises(InvalidInput) as error:
        submit(helix, at_home, in_north)
    assert error.value.code == "model_not_approved"
    heard(NORTH)
    heard(NORTH)
    assert submit(helix, at_home, in_north) == {HOME, NORTH}
    assert submit(helix, in_north, "nobody") == {NORTH}

    # A channel that came later is asked when the model is registered again, and nobody else.
    settings.LEDGER_CHANNELS = {**settings.LEDGER_CHANNELS, SOUTH: "embedded:///south"}
    for _ in range(2):
        services.register_model(model=PCE, provider=helix, by=Actor.system("command"))
    assert sorted(LedgerTransaction.objects.values_list("channel", flat=True)) == [HOME, NORTH, SOUTH]

    # A suspension on one counts on all, and an approval that comes late undoes it nowhere.
    heard(NORTH, "suspended")
    heard(SOUTH)
    model.refresh_from_db()
    assert model.state == AIModel.State.SUSPENDED
