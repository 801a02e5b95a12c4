"""Who may act for a patient: registered, accepted, ended; each scope × act × day; what a yes of theirs is."""

import json
from datetime import date, timedelta
from typing import Any

import pytest
from django.utils import timezone

from consent import representatives, services
from consent.answers import How
from consent.models import Consent, Patient, Representative
from ledger.audit.models import AuditRow
from ledger.contract.consents import compile_consent
from ledger.errors import InvalidInput, RefusedTransition
from tests.questions import ask, grant, in_force, intents, reviewer
from tests.representing import KINDS, minor, of_age_in, represent

pytestmark = pytest.mark.django_db

TODAY, DAY = timezone.localdate(), timedelta(days=1)
ACTS = ("see", "stop", "answer")


@pytest.fixture
def ana(user: Any) -> Any:
    return user("ana")


def lines(kind: str) -> list[dict[str, Any]]:
    return [json.loads(bytes(row.line)) for row in AuditRow.objects.filter(kind=kind).order_by("pk")]


def check(row: Representative, act: str, **asked: Any) -> str:
    """The code of the refusal, or ""."""
    try:
        representatives.check(row, row.patient, act, **asked)
    except RefusedTransition as error:
        return error.code
    return ""


# Registered, accepted, ended


def test_it_is_registered_accepted_and_ended_and_each_is_written_down(alice: Any, ana: Any) -> None:
    row = represent(alice, ana)
    assert row.stands()
    assert row.invitation_digest == ""
    representatives.end_by_clinic(representative=row, by=reviewer())
    assert not row.stands()
    acts = ("representative.registered", "representative.accepted", "representative.ended")
    for kind in acts:
        [line] = lines(kind)
        assert line["subject"] == alice.pseudonym
        assert line["details"]["representative"] == row.pseudonym
        for name in (alice.name, row.name, ana.email):
            assert name not in json.dumps(line)
    assert lines(acts[0])[0]["details"]["scan"] == row.evidence.digest
    assert lines(acts[1])[0]["actor"] == {"kind": "representative", "id": row.pseudonym}
    assert lines(acts[2])[0]["details"]["code"] == "clinic"
    with pytest.raises(RefusedTransition, match="any more"):
        representatives.end_by_clinic(representative=row, by=reviewer())


def test_before_it_is_accepted_nobody_acts(alice: Any) -> None:
    row = represent(alice, None)
    assert check(row, "see") == "authority_over"


def test_a_code_works_once_and_for_nobody_who_must_not(alice: Any, ana: Any, charlie: Any) -> None:
    made = represent(alice, None)
    code = representatives.invite_again(representative=made, by=_staff())
    for forbidden in (alice.user, reviewer()):
        with pytest.raises(RefusedTransition, match="somebody else"):
            representatives.accept(code=code, user=forbidden)
    representatives.accept(code=code, user=ana)
    for user in (ana, charlie.user):
        with pytest.raises(RefusedTransition, match="does not work"):
            representatives.accept(code=code, user=user)
    with pytest.raises(RefusedTransition, match="accepted already"):
        representatives.invite_again(representative=made, by=_staff())


def test_a_code_ends(alice: Any, ana: Any) -> None:
    made = represent(alice, None)
    code = representatives.invite_again(representative=made, by=_staff())
    Representative.objects.update(invitation_expires=timezone.now())
    with pytest.raises(RefusedTransition, match="does not work"):
        representatives.accept(code=code, user=ana)


def test_nobody_acts_twice_for_one(alice: Any, ana: Any) -> None:
    represent(alice, ana)
    with pytest.raises(RefusedTransition, match="already"):
        represent(alice, ana)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": " "}, "name"),
        ({"role": "patient"}, "role"),
        ({"scope": "all"}, "role"),
        ({"kinds": []}, "kinds"),
        ({"kinds": ["Person"]}, "kinds"),
        ({"sensitive": ["XYZ"]}, "kinds"),
        ({"scope": "stop", "kinds": ["Observation"]}, "kinds"),
        ({"scope": "see", "kinds": [], "sensitive": ["PSY"]}, "kinds"),
        ({"ends": TODAY - DAY}, "dates"),
        ({"starts": TODAY + 2 * DAY, "ends": TODAY + DAY}, "dates"),
        ({"role": "parent"}, "of_age"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(alice: Any, changes: Any, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        represent(alice, None, **changes)
    assert caught.value.code == code
    assert not Representative.objects.exists()


def test_a_paper_of_another_patient_is_refused(alice: Any, charlie: Any) -> None:
    from consent import scans

    with pytest.raises(InvalidInput, match="another patient"):
        represent(alice, None, evidence=scans.keep(patient=charlie, content=b"%PDF-"))


def test_a_minor_gives_no_power_of_attorney_and_a_birthday_is_needed(alice: Any) -> None:
    minor(alice, days=30)
    with pytest.raises(InvalidInput, match="minor"):
        represent(alice, None)
    alice.birth_date = None
    with pytest.raises(InvalidInput, match="date of birth"):
        representatives.register(
            patient=alice,
            name="Ana",
            role="guardian",
            scope="see",
            evidence=_paper(alice),
            by=reviewer(),
        )


def test_nobody_registers_or_ends_who_acts_for_themselves(alice: Any, ana: Any) -> None:
    with pytest.raises(RefusedTransition, match="Somebody else"):
        represent(alice, None, by=alice.user)
    row = represent(alice, ana)
    with pytest.raises(RefusedTransition, match="Somebody else"):
        representatives.end_by_clinic(representative=row, by=alice.user)


@pytest.mark.parametrize(("role", "may"), [("attorney", True), ("guardian", False), ("parent", False)])
def test_whom_the_patient_may_send_away(alice: Any, ana: Any, role: str, may: bool) -> None:
    if role == "parent":
        minor(alice, days=100)
    row = represent(alice, ana, role=role)
    if may:
        representatives.end_by_patient(representative=row, patient=alice)
        assert not row.stands()
    else:
        with pytest.raises(RefusedTransition) as caught:
            representatives.end_by_patient(representative=row, patient=alice)
        assert caught.value.code == "clinic_ends"
        assert row.stands()


def test_another_ends_nothing(alice: Any, charlie: Any, ana: Any) -> None:
    row = represent(alice, ana)
    for act in (
        lambda: representatives.end_by_patient(representative=row, patient=charlie),
        lambda: representatives.lay_down(representative=row, user=charlie.user),
    ):
        with pytest.raises(RefusedTransition, match="another person"):
            act()
    representatives.lay_down(representative=row, user=ana)
    assert row.ended_by == "representative"


# Each scope × act × day


DAYS: dict[str, tuple[dict[str, Any], bool]] = {
    "in time": ({}, True),
    "on the first day": ({"starts": TODAY}, True),
    "before the first day": ({"starts": TODAY + DAY}, False),
    "on the last day": ({"starts": TODAY - DAY, "ends": TODAY}, True),
    "after the last day": ({"starts": TODAY - 2 * DAY, "ends": TODAY - DAY}, False),
    "ended": ({"ended_at": timezone.now()}, False),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("scope", ACTS)
@pytest.mark.parametrize("when", [*DAYS, "before the birthday", "on the birthday"])
def test_every_scope_every_act_every_day(alice: Any, ana: Any, scope: str, act: str, when: str) -> None:
    if "birthday" in when:
        minor(alice, days=50)
        row = represent(alice, ana, scope=scope, role="parent")
        of_age_in(alice, days=1 if when == "before the birthday" else 0)
        in_time = when == "before the birthday"
    else:
        row = represent(alice, ana, scope=scope)
        changes, in_time = DAYS[when]
        Representative.objects.filter(pk=row.pk).update(**changes)
    wide = ACTS.index(act) <= ACTS.index(scope)
    expected = "" if in_time and wide else "out_of_scope" if in_time else "authority_over"
    assert check(row, act) == expected


def test_kinds_beyond_the_scope(alice: Any, ana: Any) -> None:
    row = represent(alice, ana, kinds=["Observation"], sensitive=["PSY"])
    assert check(row, "answer", kinds=["Observation"], sensitive=["PSY"]) == ""
    assert check(row, "answer", kinds=["Observation", "Condition"]) == "out_of_scope"
    assert check(row, "answer", kinds=["Observation"], sensitive=["HIV"]) == "out_of_scope"
    assert check(row, "answer", asked=["Observation", "Condition"]) == ""
    assert check(row, "answer", asked=["Condition"]) == "out_of_scope"


def test_for_another_patient_nothing_holds(alice: Any, charlie: Any, ana: Any) -> None:
    row = represent(alice, ana)
    with pytest.raises(RefusedTransition, match="another person"):
        representatives.check(row, charlie, "see")


# Coming of age


@pytest.mark.parametrize(
    ("born", "of_age"),
    [(date(2008, 2, 29), date(2026, 2, 28)), (date(2010, 7, 9), date(2028, 7, 9)), (None, None)],
)
def test_the_first_day_of_age(born: Any, of_age: Any) -> None:
    assert Patient(birth_date=born).of_age_on == of_age


def test_the_age_is_the_installations_own(settings: Any) -> None:
    settings.AGE_OF_MAJORITY = 16
    assert Patient(birth_date=date(2010, 7, 9)).of_age_on == date(2026, 7, 9)


def test_a_parent_ends_on_the_birthday_by_itself_and_she_is_told_once(alice: Any, ana: Any) -> None:
    minor(alice, days=50)
    row = represent(alice, ana, role="parent")
    assert row.last_day == alice.of_age_on - DAY
    of_age_in(alice, days=0)
    row = Representative.objects.select_related("patient").get()
    assert row.ended_at is None
    assert not row.stands()
    assert row.came_of_age()
    representatives.tell_of_age(patient=alice)
    row.refresh_from_db()
    assert row.told_at is not None


def test_an_earlier_end_is_not_the_birthdays(alice: Any, ana: Any) -> None:
    minor(alice, days=50)
    represent(alice, ana, role="parent")
    of_age_in(alice, days=-40)
    assert Representative.objects.select_related("patient").get().came_of_age()
    for earlier in ({"ends": TODAY - 100 * DAY}, {"ends": None, "ended_at": timezone.now() - 90 * DAY}):
        Representative.objects.update(**earlier)
        assert not Representative.objects.select_related("patient").get().came_of_age()


@pytest.mark.parametrize(("days", "ends"), [(50, True), (-50, False)])
def test_a_guardian_of_a_minor_ends_too_and_of_a_grown_up_does_not(
    alice: Any, ana: Any, days: int, ends: bool
) -> None:
    minor(alice, days=days)
    row = represent(alice, ana, role="guardian")
    assert (row.last_day is not None) == ends


def test_without_a_birthday_a_parents_authority_is_over(alice: Any, ana: Any) -> None:
    minor(alice, days=50)
    row = represent(alice, ana, role="parent")
    Patient.objects.update(birth_date=None)
    assert check(row, "see") == "authority_over"


# What a representative's answer is


def test_a_yes_says_who_gave_it_for_whom(alice: Any, ana: Any, helix: Any) -> None:
    row = represent(alice, ana)
    consent = grant(ask(helix, alice), how=How.by(row))
    assert intents(consent) == [("GrantConsent", "keyholder")]
    assert (consent.representative, consent.authority, consent.author) == (row, "attorney", row.pk)
    [line] = lines("consent.granted")
    assert line["actor"] == {"kind": "representative", "id": row.pseudonym}
    assert line["subject"] == alice.pseudonym
    assert line["details"]["authority"] == "attorney"
    [person] = consent.fhir["contained"]
    assert consent.fhir["performer"] == [
        {"reference": "#performer", "type": "RelatedPerson", "display": "attorney"}
    ]
    assert person["relationship"][0]["coding"][0]["code"] == "POWATT"
    assert person["identifier"] == [{"value": row.pseudonym}]
    assert row.name not in json.dumps(consent.fhir)
    compiled = compile_consent(consent.fhir, consent=consent.id, patient="ef" * 32)
    assert "not_understood" not in compiled["provision"]


def test_it_is_valid_fhir(alice: Any, ana: Any, helix: Any) -> None:
    from fhir.resources.R4B.consent import Consent as FHIRConsent

    minor(alice, days=300)
    consent = grant(ask(helix, alice), how=How.by(represent(alice, ana, role="parent")))
    FHIRConsent.model_validate_json(json.dumps(consent.fhir))


def test_a_yes_ends_with_the_authority(alice: Any, ana: Any, helix: Any) -> None:
    of_age = minor(alice, days=20)
    consent = grant(ask(helix, alice), how=How.by(represent(alice, ana, role="parent")))
    assert timezone.localtime(consent.expires_at).date() == of_age - DAY
    ends = consent.fhir["provision"]["period"]["end"]
    assert ends == consent.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize("scope", ["see", "stop"])
def test_who_may_not_answer_does_not(alice: Any, ana: Any, helix: Any, scope: str) -> None:
    how, question = How.by(represent(alice, ana, scope=scope)), ask(helix, alice)
    given = in_force(ask(helix, alice))
    for act in (
        lambda: grant(question, how=how),
        lambda: services.refuse(request=question, patient=alice, how=how),
        lambda: services.replace(
            consent=given, patient=alice, kinds=["Condition"], duration="until", how=how
        ),
    ):
        with pytest.raises(RefusedTransition) as caught:
            act()
        assert caught.value.code == "out_of_scope"
    assert Consent.objects.count() == 1


def test_a_no_to_what_is_beyond_the_scope_is_refused(alice: Any, ana: Any, helix: Any) -> None:
    how = How.by(represent(alice, ana, kinds=["Immunization"]))
    with pytest.raises(RefusedTransition) as caught:
        services.refuse(request=ask(helix, alice), patient=alice, how=how)
    assert caught.value.code == "out_of_scope"


@pytest.mark.parametrize("scope", ["stop", "answer"])
def test_a_stop_works_at_once(alice: Any, ana: Any, helix: Any, scope: str) -> None:
    row, consent = represent(alice, ana, scope=scope), in_force(ask(helix, alice))
    services.revoke(consent=consent, patient=alice, how=How.by(row), stop_now=lambda id: None)
    consent.refresh_from_db()
    assert (consent.ledger_state, consent.stopped_by, consent.stopper) == (
        "revoking",
        "representative",
        row,
    )
    assert intents(consent)[-1][0] == "RevokeConsent"
    assert lines("consent.stopped")[0]["actor"]["id"] == row.pseudonym


def test_who_may_see_stops_nothing(alice: Any, ana: Any, helix: Any) -> None:
    row, consent = represent(alice, ana, scope="see"), in_force(ask(helix, alice))
    with pytest.raises(RefusedTransition) as caught:
        services.revoke(consent=consent, patient=alice, how=How.by(row), stop_now=lambda id: None)
    assert caught.value.code == "out_of_scope"
    consent.refresh_from_db()
    assert consent.stopped_at is None


def test_only_who_made_a_choice_changes_it(alice: Any, ana: Any, helix: Any) -> None:
    how, hers = How.by(represent(alice, ana)), in_force(ask(helix, alice))
    anas = in_force(ask(helix, alice, model="cd" * 32), how=how)
    change = {"patient": alice, "kinds": ["Condition"], "duration": "until"}
    for consent, by in ((hers, how), (anas, How())):
        with pytest.raises(RefusedTransition) as caught:
            services.replace(consent=consent, how=by, **change)
        assert caught.value.code == "not_your_choice"
    newer = services.replace(consent=anas, how=how, **change)
    assert newer.author == anas.author


def test_kinds_that_were_registered_are_kept_sorted(alice: Any, ana: Any) -> None:
    assert represent(alice, ana).kinds == sorted(KINDS)


def _staff() -> Any:
    from ledger.audit.log import Actor

    return Actor.staff(1)


def _paper(patient: Patient) -> Any:
    from consent import scans

    return scans.keep(patient=patient, content=b"%PDF-")
