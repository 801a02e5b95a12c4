"""Acting for somebody: whose pages they are, what the scope lets in, and what is out of date."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from consent.models import Consent, ConsentRequest, Representative
from consent.teach_back import ITEMS
from gateway.portal.urls import urlpatterns
from gateway.portal.visitor import ACTS_AS, MADE_FOR
from ledger.audit.log import Actor, record
from ledger.audit.models import AuditRow
from tests.questions import ask, in_force
from tests.representing import minor, of_age_in, represent

pytestmark = pytest.mark.django_db

TODAY, DAY = timezone.localdate(), timedelta(days=1)
ACTS = ("see", "stop", "answer")
# Route -> the act that it takes of who acts for the patient; "" for the patient's own alone.
OF_A_QUESTION = {
    "question": "see",
    "choose": "answer",
    "understand": "answer",
    "check": "answer",
    "refuse": "answer",
    "done": "see",
}
OF_A_CHOICE = {"choice": "see", "change": "answer", "check_change": "answer", "stop": "stop", "undo": ""}
OF_ALL = {"home": "see", "requests": "see", "choices": "see", "access": "see"}


@pytest.fixture
def ana(user: Callable[..., Any]) -> Any:
    return user("ana")


@pytest.fixture
def row(alice: Any, ana: Any) -> Representative:
    return represent(alice, ana)


@pytest.fixture
def hers(ana: Any) -> Client:
    client = Client()
    client.force_login(ana, backend="django.contrib.auth.backends.ModelBackend")
    return client


def act_for(client: Client, row: Representative | None) -> Any:
    return client.post(reverse("act"), {"representative": row.pk if row else ""})


def post(client: Client, row: Representative, name: str, id: str, **data: Any) -> Any:
    """As from a page that was made for this patient."""
    return client.post(reverse(name, args=[id]), {MADE_FOR: row.patient_id, **data})


def text(page: Any) -> str:
    return page.content.decode()


# Choosing for whom


def test_from_the_invitation_to_acting(alice: Any, ana: Any, question: ConsentRequest, hers: Client) -> None:
    from consent import representatives
    from ledger.audit.log import Actor

    made = represent(alice, None)
    code = representatives.invite_again(representative=made, by=Actor.staff(1))
    link = reverse("invitation", args=[code])
    page = text(hers.get(link))
    assert "invites you to act for another person" in page
    assert alice.name not in page
    assert hers.post(link)["Location"] == reverse("people")
    assert f"Act for {alice.name}" in text(hers.get(reverse("people")))
    assert act_for(hers, made)["Location"] == reverse("home")
    home = text(hers.get(reverse("home")))
    assert f"You act for {alice.name}." in home
    assert "Helix AI asks" in home
    [line] = [json.loads(bytes(each.line)) for each in AuditRow.objects.filter(kind="representative.entered")]
    assert (line["actor"]["kind"], line["subject"]) == ("representative", alice.pseudonym)


def test_a_new_account_is_made_with_the_invitation(alice: Any) -> None:
    from consent import representatives
    from ledger.audit.log import Actor

    made = represent(alice, None)
    code = representatives.invite_again(representative=made, by=Actor.staff(1))
    client = Client()
    client.get(reverse("invitation", args=[code]))
    data = {"email": "new@example.org", "password1": "a long password", "password2": "a long password"}
    answer = client.post(reverse("account_signup"), data, follow=True)
    made.refresh_from_db()
    assert made.accepted_at is not None
    assert answer.redirect_chain[-1][0] == reverse("people")


def test_who_has_no_records_and_acts_for_nobody_yet_is_led_to_the_choice(
    hers: Client, row: Representative
) -> None:
    assert hers.get(reverse("home"))["Location"] == reverse("people")
    assert "You act for" not in text(hers.get(reverse("people")))


def test_a_patient_acts_for_another_and_for_herself_again(stranger: Client, charlie: Any, alice: Any) -> None:
    row = represent(alice, charlie.user)
    assert "You act for yourself." in text(stranger.get(reverse("home")))
    act_for(stranger, row)
    assert f"You act for {alice.name}." in text(stranger.get(reverse("home")))
    assert act_for(stranger, None)["Location"] == reverse("home")
    assert "You act for yourself." in text(stranger.get(reverse("home")))


def test_anothers_row_looks_like_none(hers: Client, charlie: Any, row: Representative, user: Any) -> None:
    other = represent(charlie, user("ben"))
    answers = [hers.post(reverse("act"), {"representative": id}) for id in (other.pk, "0" * 64, "x")]
    assert [answer.status_code for answer in answers] == [404] * 3
    plain = [re.sub(r'value="[^"]{20,}"', "", text(answer)) for answer in answers]
    assert len(set(plain)) == 1
    assert hers.session.get(ACTS_AS) is None


def test_a_session_that_names_anothers_row_acts_for_nobody(
    hers: Client, charlie: Any, row: Representative, user: Any
) -> None:
    other = represent(charlie, user("ben"))
    for id in (other.pk, "0" * 64):
        session = hers.session
        session[ACTS_AS] = id
        session.save()
        page = hers.get(reverse("choices"))
        assert page.status_code == 403
        assert charlie.name not in text(page)
        assert hers.session.get(ACTS_AS) is None


def test_the_patients_own_pages_name_nobody(browser: Client) -> None:
    assert "You act for" not in text(browser.get(reverse("home")))


# What the scope lets in


def test_the_table_covers_every_page_of_a_patient() -> None:
    guarded = {}
    for route in urlpatterns:
        view: Any = route.callback
        while view is not None and not hasattr(view, "may"):
            view = getattr(view, "__wrapped__", None)
        if view is not None:
            guarded[route.name] = view.may
    table = {**OF_A_QUESTION, **OF_A_CHOICE, **OF_ALL}
    assert {name: guarded[name] for name in table} == table
    # What the table does not name is read, or the patient's own alone.
    assert {may for name, may in guarded.items() if name not in table} <= {"", "see", "answer"}


@pytest.mark.parametrize("scope", ACTS)
def test_every_page_by_scope(hers: Client, alice: Any, ana: Any, helix: Any, scope: str) -> None:
    row, question = represent(alice, ana, scope=scope), ask(helix, alice)
    consent = in_force(ask(helix, alice, model="cd" * 32))
    act_for(hers, row)
    pages = [(name, [question.id], may) for name, may in OF_A_QUESTION.items()]
    pages += [(name, [consent.id], may) for name, may in OF_A_CHOICE.items()]
    pages += [(name, [], may) for name, may in OF_ALL.items()]
    for name, args, may in pages:
        page = hers.get(reverse(name, args=args))
        allowed = may != "" and ACTS.index(may) <= ACTS.index(scope)
        assert (page.status_code != 403) == allowed, (name, scope, page.status_code)
        if not allowed:
            words = "You may not do this for them" if may else "Only they can open this page"
            assert words in text(page)


@pytest.mark.parametrize("when", ["before", "after", "ended", "of age"])
@pytest.mark.parametrize("scope", ACTS)
def test_a_session_that_outlives_the_authority(
    hers: Client, alice: Any, ana: Any, helix: Any, scope: str, when: str
) -> None:
    if when == "of age":
        minor(alice, days=50)
    row = represent(alice, ana, scope=scope, role="parent" if when == "of age" else "attorney")
    question = ask(helix, alice)
    consent = in_force(ask(helix, alice, model="cd" * 32))
    act_for(hers, row)
    assert hers.get(reverse("home")).status_code == 200
    if when == "of age":
        of_age_in(alice, days=0)
    else:
        change = {
            "before": {"starts": TODAY + DAY},
            "after": {"starts": TODAY - 2 * DAY, "ends": TODAY - DAY},
            "ended": {"ended_at": timezone.now()},
        }[when]
        Representative.objects.filter(pk=row.pk).update(**change)
    for name, id in (("refuse", question.id), ("stop", consent.id)):
        session = hers.session
        session[ACTS_AS] = row.pk
        session.save()
        page = post(hers, row, name, id)
        assert page.status_code == 403
        assert "You no longer act for this person" in text(page)
        assert ("They are an adult now" in text(page)) == (when == "of age")
    question.refresh_from_db()
    consent.refresh_from_db()
    assert (question.state, consent.stopped_at) == ("pending", None)
    # It acts for nobody any more, and cannot again.
    assert hers.session.get(ACTS_AS) is None
    assert act_for(hers, row)["Location"] == reverse("people")
    assert hers.session.get(ACTS_AS) is None


def test_only_kinds_within_the_scope_are_offered_and_shown(
    hers: Client, alice: Any, ana: Any, helix: Any
) -> None:
    row = represent(alice, ana, kinds=["Observation"])
    question, consent = ask(helix, alice), in_force(ask(helix, alice), sensitive=["PSY"])
    act_for(hers, row)
    form = text(hers.get(reverse("choose", args=[question.id])))
    assert 'value="Observation"' in form
    for beyond in ("Condition", "MedicationRequest", "PSY"):
        assert f'value="{beyond}"' not in form
    page = text(hers.get(reverse("choice", args=[consent.id])))
    assert "Test results" in page
    assert "Mental health" not in page.split("What was chosen")[1].split("What for")[0]


def test_a_use_tells_of_no_kind_beyond_the_scope(hers: Client, alice: Any, ana: Any, helix: Any) -> None:
    row = represent(alice, ana, kinds=["Observation"])
    consent = in_force(ask(helix, alice), kinds=["Observation", "Condition"], sensitive=["PSY"])
    told = {"request": consent.request_id, "requester": str(helix.pk), "subject_id": "aa" * 32}
    with transaction.atomic():
        for kind, more in (
            ("job.released", {"consent": consent.pk}),
            ("job.denied", {"subject_id": "bb" * 32}),
        ):
            record(kind=kind, actor=Actor.system("worker"), subject=alice.pseudonym, **{**told, **more})
    act_for(hers, row)
    for use in ("aa" * 32, "bb" * 32):
        page = text(hers.get(reverse("use", args=[use])))
        assert "Test results" in page
        assert "Mental health" not in page
        assert "Health problems" not in page


def test_a_question_beyond_the_scope_is_not_answered(
    hers: Client, alice: Any, ana: Any, question: ConsentRequest
) -> None:
    row = represent(alice, ana, kinds=["Immunization"])
    act_for(hers, row)
    assert "You may not do this for them" in text(hers.get(reverse("choose", args=[question.id])))
    assert post(hers, row, "refuse", question.id).status_code == 409
    question.refresh_from_db()
    assert question.state == "pending"


# What is done for somebody


def say_yes(client: Client, row: Representative, question: ConsentRequest, **choice: Any) -> Any:
    post(client, row, "choose", question.id, **{"kinds": ["Observation"], "duration": "until", **choice})
    for number, item in enumerate(ITEMS.values(), start=1):
        address = reverse("understand_one", args=[question.id, number])
        client.post(address, {MADE_FOR: row.patient_id, "answer": item.right})
    client.post(reverse("account_reauthenticate"), {"password": "correct horse battery"})
    page = text(client.get(reverse("check", args=[question.id])))
    found = re.search(r'name="shown" value="([0-9a-f]+)"', page)
    return post(client, row, "check", question.id, shown=found[1] if found else "")


def test_a_yes_for_somebody_and_what_she_reads_of_it(
    hers: Client, browser: Client, row: Representative, question: ConsentRequest
) -> None:
    act_for(hers, row)
    assert say_yes(hers, row, question)["Location"] == reverse("done", args=[question.id])
    consent = Consent.objects.get()
    assert consent.representative == row
    assert "Ana (for you) said yes" in text(browser.get(reverse("choice", args=[consent.id])))
    mine = text(hers.get(reverse("choice", args=[consent.id])))
    assert f"You (for {row.patient.name}) said yes" in mine
    done = reverse("done", args=[question.id])
    assert "Ana (for you) said yes" in text(browser.get(done))
    assert "You said yes" in text(hers.get(done))
    assert "You can take back your yes at any time in" in text(browser.get(done))
    # She stops it at once.
    browser.post(reverse("stop", args=[consent.id]))
    assert "You can stop at any time" not in text(browser.get(done))
    assert "You can take back your yes" not in text(browser.get(done))
    after = text(hers.get(reverse("choice", args=[consent.id])))
    assert f"{row.patient.name} stopped" in after
    assert "Nothing is shared. The clinic will look at it." in after


def test_a_stop_for_somebody_and_what_she_reads_of_it(
    hers: Client, browser: Client, row: Representative, question: ConsentRequest
) -> None:
    consent = in_force(question)
    act_for(hers, row)
    post(hers, row, "stop", consent.id)
    page = text(browser.get(reverse("choice", args=[consent.id])))
    assert "Ana (for you) stopped" in page


def test_a_yes_after_her_no_is_held_and_both_read_why(
    hers: Client, browser: Client, row: Representative, question: ConsentRequest
) -> None:
    browser.post(reverse("refuse", args=[question.id]))
    act_for(hers, row)
    page = text(hers.get(reverse("question", args=[question.id])))
    assert f"{row.patient.name} said no. If you say yes, you do not agree." in page
    assert "When this ends" in page  # who may still decide reads all of it
    assert "When this ends" not in text(browser.get(reverse("question", args=[question.id])))
    say_yes(hers, row, question)
    consent = Consent.objects.get(representative=row)
    assert consent.ledger_state == "held"
    for client in (hers, browser):
        for page in (reverse("done", args=[question.id]), reverse("choice", args=[consent.id])):
            assert "Not agreed. Nothing is shared" in text(client.get(page))
        assert "Where you do not agree" in text(client.get(reverse("people")))


# With a passkey it is the patient who signs (docs/adr/0013)


def check_page(client: Client, row: Representative, question: ConsentRequest) -> str:
    say_yes(client, row, question)
    return text(client.get(reverse("check", args=[question.id])))


def test_once_the_patient_has_a_passkey_only_she_says_yes(
    hers: Client, row: Representative, question: ConsentRequest, monkeypatch: Any
) -> None:
    from gateway.keyholder.client import Keyholder

    known = {"known": ["aa"], "signing": ["aa"], "quiet_until": 0}
    monkeypatch.setattr(Keyholder, "signers", lambda self, *, patient: known)
    act_for(hers, row)
    page = check_page(hers, row, question)
    assert f"has to be signed with a passkey of {row.patient.name}" in page
    assert "Agree and share" not in page
    assert "No, do not share" in page
    assert not Consent.objects.exists()
    # No and stop need none.
    post(hers, row, "refuse", question.id)
    assert Consent.objects.get().status == "rejected"


def test_nor_where_the_question_asks_for_a_signature(
    hers: Client, row: Representative, question: ConsentRequest
) -> None:
    ConsentRequest.objects.update(signature_required=True)
    act_for(hers, row)
    assert "has to be signed with a passkey" in check_page(hers, row, question)
    assert not Consent.objects.exists()


def test_a_representatives_passkey_is_never_taken_for_the_patients(
    hers: Client, row: Representative, question: ConsentRequest, monkeypatch: Any
) -> None:
    from gateway.keyholder.client import Keyholder
    from gateway.portal import signing

    asked: list[str] = []
    nobody = {"known": [], "signing": [], "quiet_until": 0}
    monkeypatch.setattr(Keyholder, "signers", lambda self, *, patient: nobody)
    for name in ("draft", "enrol_passkey"):
        monkeypatch.setattr(Keyholder, name, lambda self, name=name, **fields: asked.append(name))
    monkeypatch.setattr(signing, "passkeys_of", lambda user: [object()])
    act_for(hers, row)
    assert say_yes(hers, row, question)["Location"] == reverse("done", args=[question.id])
    assert asked == []
    assert Consent.objects.get().signature is None


def test_a_signature_with_a_representatives_yes_is_refused(
    row: Representative, question: ConsentRequest
) -> None:
    from consent.answers import How
    from ledger.errors import RefusedTransition
    from tests.questions import grant

    with pytest.raises(RefusedTransition, match="Only the patient signs"):
        grant(question, how=How.by(row), signature={"credential": "aa"})


# Two tabs


def test_every_form_says_for_whom_it_was_made(
    hers: Client, browser: Client, row: Representative, question: ConsentRequest
) -> None:
    act_for(hers, row)
    page = text(hers.get(reverse("question", args=[question.id])))
    field = f'name="{MADE_FOR}" value="{row.patient_id}"'
    assert page.count('name="csrfmiddlewaretoken"') == page.count(field) > 0
    # Who acts for nobody has one kind of page only.
    assert MADE_FOR not in text(browser.get(reverse("question", args=[question.id])))


@pytest.mark.parametrize("other", ["herself", "another", "unsaid"])
def test_a_post_that_was_made_for_somebody_else_changes_nothing(
    stranger: Client, charlie: Any, alice: Any, helix: Any, user: Any, other: str
) -> None:
    from consent.models import Patient

    third = Patient.objects.create(user=user("third"), name="Third Example", record_id="third-1")
    first, second = represent(alice, charlie.user), represent(third, charlie.user)
    consent = in_force(ask(helix, alice))
    act_for(stranger, first)
    assert stranger.get(reverse("choice", args=[consent.id])).status_code == 200
    # In another tab.
    act_for(stranger, {"herself": None, "another": second, "unsaid": first}[other])
    data = {} if other == "unsaid" else {MADE_FOR: alice.pk}
    page = stranger.post(reverse("stop", args=[consent.id]), data)
    assert page.status_code == 409
    assert "This page was for someone else" in text(page)
    consent.refresh_from_db()
    assert consent.stopped_at is None


# How many queries


@pytest.mark.parametrize("name", [*OF_ALL, "people"])
@pytest.mark.parametrize("more", [1, 12])
def test_pages_take_few_queries_however_many_there_are(
    hers: Client,
    alice: Any,
    helix: Any,
    row: Representative,
    user: Any,
    name: str,
    more: int,
    django_assert_max_num_queries: Any,
) -> None:
    from consent.answers import How
    from tests.questions import grant

    for number in range(more):
        represent(alice, user(f"other{number}"))
        services_no(ask(helix, alice, model=f"{number:064x}"))
        grant(ask(helix, alice, model=f"{number:064x}"), how=How.by(row))
    act_for(hers, row)
    with django_assert_max_num_queries(15):
        assert hers.get(reverse(name)).status_code == 200


def services_no(question: ConsentRequest) -> None:
    from consent import services

    services.refuse(request=question, patient=question.patient)
