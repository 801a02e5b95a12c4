"""A cohort job over two channels, whatever ledger they are of: what a leg that waits does to the job."""

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from consent.models import Requester
from gateway.analysis import services, tasks
from gateway.analysis.models import Job, Leg
from gateway.drills.rig import Rig
from ledger.client import HOME
from ledger.contract.in_force import consent_key
from ledger.contract.release import deliver_key, release_key
from ledger.errors import AccessDenied
from tests.analysis.test_job_end_to_end import Play, lapse, records

NORTH = "north"


def a_cohort_spans_two_channels(rig: Rig, helix: Requester, settings: Any, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tasks.run_job, "apply_async", lambda **_: None)
    settings.LEDGER_URL, settings.KEYHOLDER_SOCKET = rig.url, str(rig.socket)
    settings.LEDGER_CHANNELS = {NORTH: rig.urls[NORTH]}
    play = Play(rig.urls, settings.KEYHOLDER_SOCKET, helix)
    play.register()
    alice, bob, charlie = (play.someone(*records(), channel=name) for name in (HOME, NORTH, NORTH))
    consents = {one: play.yes(one) for one in (alice, bob, charlie)}
    asked = [consents[one].request_id for one in (alice, bob, charlie)]

    # 1. A consent is on its patient's channel alone; each leg has its own two doors there, and no other.
    for person, consent in consents.items():
        assert on_ledgers(play, consent_key(consent.pk)) == {person.channel}
    job = play.submit(*asked)
    go_on(play, job, until=lambda: job.state in Job.SETTLED)
    assert job.state == Job.State.DONE
    legs = {leg.channel: leg for leg in job.legs.all()}
    assert legs.keys() == {HOME, NORTH}
    for channel, leg in legs.items():
        assert (leg.state, leg.attempts.get().number) == (Leg.State.DONE, 1)
        for door in (release_key(leg.id, 1), deliver_key(leg.id)):
            assert on_ledgers(play, door) == {channel}
    assert legs[HOME].id == job.id != legs[NORTH].id
    assert all(play.result(job, number)["entry"] for number in range(3))

    # 2. North is away: its leg waits, home's is done, and the client sees nothing of either.
    job = play.submit(*asked)
    rig.lose(NORTH)
    go_on(play, job, until=lambda: states(job)[HOME] == Leg.State.DONE)
    assert job.state not in Job.SETTLED
    assert states(job) == {HOME: Leg.State.DONE, NORTH: Leg.State.OPEN}
    assert {one["state"] for one in services.client_view(job)["subjects"]} == {"queued"}
    with pytest.raises(AccessDenied):
        play.result(job)
    delivered = job.legs.get(channel=HOME).attempts.get().deliver_tx
    play.stop(consents[bob])

    # 3. North is back: its leg ends without who stopped, and home's was not done again.
    rig.find(NORTH)
    go_on(play, job, until=lambda: job.state in Job.SETTLED)
    assert (job.state, states(job)) == (Job.State.DONE, {HOME: Leg.State.DONE, NORTH: Leg.State.DONE})
    assert job.legs.get(channel=HOME).attempts.get().deliver_tx == delivered
    assert [one["state"] for one in services.client_view(job)["subjects"]] == [
        "delivered", "not_available", "delivered",
    ]  # fmt: skip
    assert play.result(job, 0)["entry"]
    assert play.result(job, 2)["entry"]

    # 4. Database and ledgers agree channel by channel, and every ledger holds.
    play.settle()
    consents[bob].refresh_from_db()
    assert consents[bob].ledger_state == "revoked"
    assert json.loads(said("replayledger", "--json")) == {"consents": 3, "differences": [], "repaired": {}}
    home, north = said("fsck").splitlines()
    assert home.startswith("good: ")
    assert north.startswith("north: good: ")
    play.channels.close()


def go_on(play: Play, job: Job, *, until: Callable[[], bool]) -> None:
    """As the relay does: hand it over again, for a ledger may need a moment to be there."""
    for _ in range(30):
        lapse(job)
        play.run(job)
        if until():
            return
    raise AssertionError(job.error_code)


def states(job: Job) -> dict[str, str]:
    return dict(job.legs.values_list("channel", "state"))


def on_ledgers(play: Play, key: str) -> set[str]:
    """The channels whose ledger has this key."""
    return {name for name, channel in play.channels.items() if channel.ledger.evaluate([key]) != [None]}


def said(command: str, *arguments: str) -> str:
    """What the command prints; it ends well."""
    out = StringIO()
    call_command(command, *arguments, stdout=out)
    return out.getvalue()
