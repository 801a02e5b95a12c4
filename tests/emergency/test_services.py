"""Break-glass on the real ledger and keyholder: told first, bounded, ended, reviewed by a second person."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from consent.models import News, random_id
from gateway.emergency import services
from gateway.emergency.models import Emergency
from gateway.keyholder.client import Keyholder
from gateway.relay import Relay
from ledger.audit.log import Actor
from ledger.audit.models import AuditRow
from ledger.channels import Channels
from ledger.client import HOME, Event
from ledger.errors import AccessDenied, InvalidInput, KeyholderUnavailable, RefusedTransition
from tests.emergency.conftest import WORDS, allergy

pytestmark = pytest.mark.django_db


def begin(patient: Any, by: Any, **changes: Any) -> Emergency:
    return services.open_emergency(
        **{"patient": patient, "by": by, "reason": "ETREAT", "explanation": WORDS, **changes}
    )


def kinds(patient: Any) -> list[str]:
    return list(
        AuditRow.objects.filter(subject=patient.pseudonym).order_by("pk").values_list("kind", flat=True)
    )


def accessed(access: str, kind: str = "emergency") -> Event:
    payload = {"access": access, "kind": kind}
    return Event(block=5, index=0, tx_id="cd" * 32, name="Accessed", payload=payload)


def test_the_records_are_read_newest_first_and_each_reading_is_told(
    records: None, alice: Any, ward: Any
) -> None:
    found = begin(alice, ward)
    assert (found.state, len(found.tx_id)) == ("recorded", 64)
    assert {one["resource_type"] for one in services.contents(emergency=found)} == {
        "AllergyIntolerance",
        "Observation",
    }
    seen, parts = services.read(emergency=found, kind="Observation", by=ward)
    assert parts == 1
    assert [(line.what, str(line.details[0][1])) for line in seen.lines] == [
        ("Potassium", "5.9 mmol/L"),
        ("Potassium", "4.1 mmol/L"),
    ]
    assert kinds(alice) == ["access.emergency", "emergency.read"]
    row = json.loads(bytes(AuditRow.objects.get(kind="access.emergency").line))
    assert row["details"] == {"access": found.pk, "purpose": "ETREAT"}
    assert WORDS not in str(row)


def test_the_same_post_twice_is_one_access(installation: Any, records: None, alice: Any, ward: Any) -> None:
    assert begin(alice, ward).pk == begin(alice, ward).pk
    assert kinds(alice) == ["access.emergency"]


def test_the_patient_is_told_even_where_the_keyholder_is_away(
    records: None, alice: Any, ward: Any, settings: Any, tmp_path: Any
) -> None:
    there = settings.KEYHOLDER_SOCKET
    settings.KEYHOLDER_SOCKET = str(tmp_path / "nobody.sock")
    with pytest.raises(KeyholderUnavailable):
        begin(alice, ward)
    found = Emergency.objects.get()
    assert (found.state, kinds(alice)) == ("asked", ["access.emergency"])
    with pytest.raises(AccessDenied):
        services.read(emergency=found, kind="Observation", by=ward)
    settings.KEYHOLDER_SOCKET = there
    assert begin(alice, ward).state == "recorded"  # asked again: the same access
    assert kinds(alice) == ["access.emergency"]


@pytest.mark.parametrize(
    "changes", [{"reason": "x"}, {"reason": ""}, {"explanation": "too short"}, {"explanation": " " * 40}]
)
def test_no_reason_no_access(installation: Any, alice: Any, ward: Any, changes: Any) -> None:
    with pytest.raises(InvalidInput):
        begin(alice, ward, **changes)
    assert not Emergency.objects.exists()
    assert not kinds(alice)


def test_nobody_breaks_the_glass_of_their_own_records(installation: Any, alice: Any, ward: Any) -> None:
    alice.user = ward
    alice.save()
    with pytest.raises(RefusedTransition):
        begin(alice, ward)


def test_end_now_closes_it_at_the_keyholder_too(records: None, alice: Any, ward: Any, dana: Any) -> None:
    found = begin(alice, ward)
    with pytest.raises(RefusedTransition):
        services.end(emergency=found, by=dana)
    for _ in range(2):
        services.end(emergency=found, by=ward)
    assert kinds(alice).count("emergency.ended") == 1
    Emergency.objects.update(ended_at=None)  # a database that was put back opens nothing
    found.refresh_from_db()
    with pytest.raises(AccessDenied) as refused:
        services.read(emergency=found, kind="Observation", by=ward)
    assert refused.value.code == "access_ended"


def test_after_the_hour_nothing_is_read(records: None, alice: Any, ward: Any) -> None:
    found = begin(alice, ward)
    Emergency.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    found.refresh_from_db()
    assert not services.is_open(found)
    with pytest.raises(AccessDenied):
        services.read(emergency=found, kind="Observation", by=ward)


def test_nobody_else_reads_by_it(records: None, alice: Any, ward: Any, dana: Any) -> None:
    with pytest.raises(AccessDenied):
        services.read(emergency=begin(alice, ward), kind="Observation", by=dana)


def test_large_records_come_in_parts(
    seal: Callable[..., None], alice: Any, ward: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        seal(alice, allergy(f"a{number}", f"Allergen {number}"), labels=("N", f"L{number}"))
    monkeypatch.setattr(services, "MOST_BYTES", 700)
    found = begin(alice, ward)
    seen: list[str] = []
    for part in range(2):
        lines, parts = services.read(emergency=found, kind="AllergyIntolerance", part=part, by=ward)
        assert parts == 2
        seen += [line.what for line in lines.lines]
    assert sorted(seen) == ["Allergen 0", "Allergen 1", "Allergen 2"]
    assert services.read(emergency=found, kind="AllergyIntolerance", part=2, by=ward)[0].lines == ()


def test_a_second_person_reviews_it_once(records: None, alice: Any, ward: Any, dana: Any) -> None:
    found = begin(alice, ward)
    with pytest.raises(RefusedTransition) as refused:
        services.review(emergency=found, by=ward, outcome="justified", reason="I was there myself")
    assert refused.value.code == "own_emergency"
    for wrong in ({"outcome": "fine"}, {"reason": "ok"}):
        with pytest.raises(InvalidInput):
            services.review(
                **{
                    "emergency": found,
                    "by": dana,
                    "outcome": "justified",
                    "reason": "Ward round notes fit",
                    **wrong,
                }
            )
    services.take(emergency=found, by=dana)
    services.review(emergency=found, by=dana, outcome="not_justified", reason="The patient was awake")
    found.refresh_from_db()
    assert (found.owner, found.reviewed_by, found.outcome) == (dana, dana, "not_justified")
    with pytest.raises(RefusedTransition):
        services.review(emergency=found, by=dana, outcome="justified", reason="On second thoughts yes")
    line = json.loads(bytes(AuditRow.objects.get(kind="emergency.reviewed").line))
    assert line["details"] == {"access": found.pk, "code": "not_justified"}


def test_the_patient_does_not_review_what_was_opened_of_hers(records: None, alice: Any, ward: Any) -> None:
    found = begin(alice, ward)
    with pytest.raises(RefusedTransition):
        services.review(emergency=found, by=alice.user, outcome="justified", reason="It was me, all is well")


def test_the_event_of_a_known_one_changes_nothing_more(records: None, alice: Any, ward: Any) -> None:
    found = begin(alice, ward)
    for _ in range(2):
        services.record_accessed(accessed(found.pk))
    assert kinds(alice) == ["access.emergency"]
    services.record_accessed(accessed(found.pk, "subject"))


def test_one_that_no_page_asked_for_is_told_to_the_patient_all_the_same(
    records: None, installation: Any, alice: Any
) -> None:
    """A web process that was taken over goes straight to the keyholder: the ledger and the relay tell."""
    access = random_id()
    answer = Keyholder(installation.keyholder_socket).emergency_access(
        access=access,
        patient=alice.pk,
        details={"clinician": Actor.staff(1).id, "reason": "ETREAT", "words": 7},
        expires=int(timezone.now().timestamp()) + 3600,
    )
    assert answer["state"] == "committed"
    for _ in range(2):
        services.record_accessed(accessed(access))
    found = Emergency.objects.get()
    assert (found.opened_by, found.reason, found.explanation) == (None, "ETREAT", "")
    assert found.review_by > timezone.now() + timedelta(hours=71)
    assert kinds(alice) == ["access.emergency"]


@pytest.mark.parametrize("whose", ["another's", "hers"])
def test_a_row_that_was_put_there_before_hides_nothing(
    records: None, installation: Any, alice: Any, charlie: Any, dana: Any, whose: str
) -> None:
    """As a web process that was taken over could write it: for another patient, or without the news."""
    access, now = random_id(), timezone.now().replace(microsecond=0)
    Emergency.objects.create(
        id=access,
        patient=charlie if whose == "another's" else alice,
        opened_by=dana,
        reason="ETREAT",
        explanation=WORDS,
        opened_at=now,
        expires_at=now + timedelta(hours=1),
        review_by=now + timedelta(hours=72),
        reviewed_at=now,
        outcome="justified",
    )
    Keyholder(installation.keyholder_socket).emergency_access(
        access=access, patient=alice.pk, details={}, expires=int(now.timestamp()) + 3600
    )
    for _ in range(2):
        services.record_accessed(accessed(access))
    found = Emergency.objects.get()
    assert (found.patient, found.opened_by, found.outcome) == (alice, None, "")
    assert News.objects.filter(patient=alice, kind="emergency", about=access).count() == 1


def test_the_relay_has_the_other_organisations_complete_it(
    records: None, installation: Any, alice: Any, ward: Any
) -> None:
    found = begin(alice, ward)
    urls = {HOME: installation.ledger_url}
    channels = Channels.open(urls, identity="gateway")
    Relay(urls, installation.keyholder_socket)._complete_emergencies(channels[HOME])
    key = f"access/{found.pk}/{channels[HOME].trust.own}"
    (value,) = channels.home.ledger.evaluate([key])
    channels.close()
    assert json.loads(value or b"")["expires"] == int(found.expires_at.timestamp())


def test_another_organisations_emergency_is_passed_over(installation: Any) -> None:
    services.record_accessed(accessed(random_id()))
    assert not Emergency.objects.exists()
