"""The authorization: every element of 45 CFR 164.508(c) and 42 CFR 2.31, or a refusal that names it."""

from typing import Any

import pytest
from django.utils import translation

from consent import notices
from consent.models import Consent, Representative
from gateway.compliance import authorization
from gateway.compliance.authorization import elements, is_authorization, missing, require
from ledger.errors import InvalidInput, RefusedTransition
from tests.compliance.conftest import Year
from tests.documents import check_pdf, languages
from tests.questions import ask, grant, in_force
from tests.representing import represent

pytestmark = pytest.mark.django_db

HIPAA = {
    "description": "164.508(c)(1)(i)",
    "discloser": "164.508(c)(1)(ii)",
    "recipient": "164.508(c)(1)(iii)",
    "purpose": "164.508(c)(1)(iv)",
    "expiry": "164.508(c)(1)(v)",
    "signature": "164.508(c)(1)(vi)",
    "date": "164.508(c)(1)(vi)",
    "revocation": "164.508(c)(2)(i)",
    "conditioning": "164.508(c)(2)(ii)",
    "redisclosure": "164.508(c)(2)(iii)",
}


@pytest.fixture
def consent(year: Year) -> Consent:
    return Consent.objects.get(pk=year.consent.pk)


def test_a_yes_in_the_portal_has_every_element(consent: Consent) -> None:
    found = {each.code: each for each in elements(consent)}
    assert {code: found[code].hipaa for code in HIPAA} == HIPAA
    assert {each.part2 for each in found.values()} >= {f"2.31(a)({n})" for n in range(1, 11)}
    assert missing(consent) == []
    assert is_authorization(consent)
    assert "Stop sharing" in str(found["revocation"].value)
    assert "your care stays the same" in str(found["conditioning"].value)
    assert "may be passed on" in str(found["redisclosure"].value)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"kinds": [], "sensitive": []}, "description"),
        ({"expires_at": None}, "expiry"),
        ({"given_by": "phone"}, "signature"),
        ({"given_by": "paper"}, "signature"),  # no scan of the paper
        ({"authority": "friend"}, "authority"),
    ],
)
def test_a_missing_element_is_named(consent: Consent, changes: dict[str, Any], code: str) -> None:
    Consent.objects.filter(pk=consent.pk).update(**changes)
    consent.refresh_from_db()
    assert [each.code for each in missing(consent)] == [code]
    assert not is_authorization(consent)
    with pytest.raises(InvalidInput) as caught:
        authorization.report(consent)
    assert caught.value.code == "authorization_element"
    named = next(each for each in elements(consent) if each.code == code)
    assert f"{named.name} ({named.hipaa})" in caught.value.message


@pytest.mark.parametrize(
    ("field", "code"),
    [("what_for", "purpose"), ("requester__name", "recipient")],
)
def test_a_question_that_lacks_one(consent: Consent, field: str, code: str) -> None:
    asked = consent.request
    if field == "what_for":
        asked.what_for, asked.purpose = "", "NONE"
    else:
        asked.requester.name = ""
    assert [each.code for each in missing(consent)] == [code]


@pytest.mark.parametrize("statement", sorted(authorization.STATEMENTS))
def test_a_text_of_the_hospital_s_own_that_lacks_a_statement(consent: Consent, statement: str) -> None:
    heading = authorization.STATEMENTS[statement]["en"]
    text = notices.current().text.replace(heading, "Something else")
    consent.notice = notices.publish(slug="own", language="en", title="Our own text", text=text)
    assert [each.code for each in missing(consent)] == [statement]


def test_no_discloser(consent: Consent, settings: Any) -> None:
    settings.CUSTODIAN = ""
    assert [each.code for each in missing(consent)] == ["discloser"]


def test_what_never_came_into_force_authorizes_nothing(year: Year) -> None:
    waiting = grant(ask(year.requester, year.patient))
    with pytest.raises(RefusedTransition) as caught:
        require(waiting)
    assert caught.value.code == "authorization_not_given"


def test_the_authority_of_whoever_signed_for_her(consent: Consent, user: Any) -> None:
    person = represent(consent.patient, user("guardian"), role="guardian")
    assert isinstance(person, Representative)
    consent.authority, consent.representative = "guardian", person
    found = {each.code: each.value for each in elements(consent)}
    assert person.name in found["authority"]
    assert "guardian" in found["authority"]


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_document(consent: Consent, language: str) -> None:
    with translation.override(language):
        report = authorization.report(consent)
        made = report.as_pdf(language)
    check_pdf(
        made, title=report.title, language=language, has=["164.508(c)(2)(iii)", "Helix AI", "Alice Example"]
    )
    assert languages(made) == {"en"} - {language}  # the asker's words, and those of the text that was shown
    assert "42 CFR" not in " ".join(section.heading for section in report.sections)


def test_substance_use_carries_the_notice_of_part_2(year: Year) -> None:
    consent = in_force(ask(year.requester, year.patient, sensitive=["OPIOIDUD"]), sensitive=["OPIOIDUD"])
    report = authorization.report(consent)
    assert any("42 CFR 2.32" in section.heading for section in report.sections)
    check_pdf(report.as_pdf("en"), title=report.title, language="en", has=["2.31(a)(3)", "Opioid care"])
