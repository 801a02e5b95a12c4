"""Each step of a transaction has a deadline of its own, and says by its own error that it passed.

The deadlines lie far apart, so a step that took another's would show: by what the peer saw it was given,
and, where the step hangs, by a test that does not end.
"""

from collections.abc import Callable

import pytest

from ledger.client import Envelope
from ledger.errors import LedgerError, OutcomeUnknown, PrepareError, SendError
from ledger.fabric.client import FabricLedger
from ledger.fabric.gateway import Deadlines
from ledger.fabric.profile import Profile
from tests.ledger.fake_network import FakeNetwork

APART = 200.0  # seconds between two deadlines
STEPS = ("endorse", "submit", "evaluate")
PATIENT = {name: APART * place for place, name in enumerate(STEPS, start=1)}
COMMIT = APART * 4


def connect(network: FakeNetwork, **seconds: float) -> FabricLedger:
    profile = Profile.load(network.profile)
    return FabricLedger(profile, profile.identity("gateway"), deadlines=Deadlines(**{**PATIENT, **seconds}))


def put(ledger: FabricLedger) -> Envelope:
    return ledger.prepare("Put", {"key": "a", "value": "v"})


def test_the_peer_sees_each_steps_own_deadline(network: FakeNetwork) -> None:
    ledger = connect(network)
    envelope = put(ledger)
    ledger.send(envelope)
    assert ledger.outcome(envelope.tx_id, timeout=COMMIT).is_valid
    ledger.evaluate(["a"])
    ledger.close()
    given = {"Endorse": "endorse", "Submit": "submit", "Evaluate": "evaluate"}
    expected = {step: PATIENT[name] for step, name in given.items()} | {"CommitStatus": COMMIT}
    assert network.allowed.keys() == expected.keys()
    for step, seconds in expected.items():
        assert abs(network.allowed[step] - seconds) < APART / 2, step


@pytest.mark.parametrize(
    ("hung", "short", "step", "error"),
    [
        ("Endorse", "endorse", lambda ledger, envelope: put(ledger), PrepareError),
        ("Submit", "submit", lambda ledger, envelope: ledger.send(envelope), SendError),
        ("Evaluate", "evaluate", lambda ledger, envelope: ledger.evaluate(["a"]), LedgerError),
    ],
)
def test_a_step_that_hangs_ends_at_its_own_deadline(
    network: FakeNetwork,
    hung: str,
    short: str,
    step: Callable[[FabricLedger, Envelope], object],
    error: type[Exception],
) -> None:
    ledger = connect(network, **{short: 0.3})
    envelope = put(ledger)
    network.hung.add(hung)
    with pytest.raises(error):
        step(ledger, envelope)
    network.hung.clear()
    step(ledger, envelope)
    ledger.close()


def test_an_outcome_that_hangs_is_unknown_and_the_same_envelope_lands_once(network: FakeNetwork) -> None:
    ledger = connect(network)
    envelope = put(ledger)
    network.hung.add("CommitStatus")
    network.hold = True
    ledger.send(envelope)
    with pytest.raises(OutcomeUnknown):
        ledger.outcome(envelope.tx_id, timeout=0.3)
    network.hold = False
    network.cut()
    # The status still hangs; the block stores are asked instead.
    assert ledger.outcome(envelope.tx_id, timeout=0.3).is_valid
    network.hung.clear()
    ledger.send(envelope)
    assert ledger.outcome(envelope.tx_id, timeout=5).is_valid
    ledger.close()
