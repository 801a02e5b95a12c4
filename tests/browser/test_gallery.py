"""Everyone of the catalogue is in the state that it says; a page takes at most 15 queries and 60 KB."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, models
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import formats, timezone

from consent.models import Conflict, News, Patient, Requester, random_id
from consent.state import State, state_of, state_of_request
from gateway.analysis.models import Job, Output
from ledger.audit.models import AuditRow
from tests.browser.gallery import SOON, Gallery, open_gallery
from tests.browser.pages import PAGES, Page
from tests.browser.visit import FIRST_VIEW, compressed, signed_in

pytestmark = pytest.mark.django_db

MOST = 15
FEW, ROWS = 60, 10_000
SKIN = tuple(f"skin/{file}" for file in ("govuk-frontend.css", "gateway.css", "gateway.js", "icon.svg"))
# Those who come to have much.
GROWN = ("sharing", "waiting", "used")
PAGES_OF_OURS = [page for page in PAGES if page.status == 200]


@pytest.fixture
def no_keyholder() -> None:
    """The gallery has one."""


@pytest.fixture(scope="module")
def gallery(django_db_setup: None, django_db_blocker: Any) -> Iterator[Gallery]:
    with django_db_blocker.unblock(), open_gallery() as opened:
        yield opened


# State of the catalogue -> what its answer is, where that is not the state's own name.
ANSWERS = {
    "waiting_to_be_sealed": State.PENDING,
    "stop_waits": State.STOPPING,
    "used": State.SHARING,
    "used_up": State.STOPPED,
    "stopped_midway": State.STOPPED,
    "copied": State.STOPPED,
    "blocked": State.STOPPED,
    "proof_differs": State.SHARING,
    "represented": State.SHARING,
    "disagreed": State.STOPPED,
    "written_down": State.PARTLY,
    "written_down_by_mistake": State.MISTAKE,
}
QUESTIONS = {
    **dict.fromkeys(("due_today", "ticked", "misread", "understood"), State.WAITING),
    "sent_back": State.IN_REVIEW,
}
JOBS = {
    "used": (Job.State.DONE, ["delivered"]),
    "used_up": (Job.State.DONE, ["delivered"]),
    "stopped_midway": (Job.State.STOPPED, ["not_available"]),
    "copied": (Job.State.DONE, ["delivered"]),
    "blocked": (Job.State.DENIED, ["not_available"]),
    "proof_differs": (Job.State.DONE, ["delivered"]),
}


def test_everyone_is_in_their_state(gallery: Gallery) -> None:
    for name, person in gallery.people.items():
        if person.consent is not None:
            assert state_of(person.consent) == ANSWERS.get(name, name), name
        elif person.question is not None:
            assert state_of_request(person.question) == QUESTIONS.get(name, name), name
        if person.job is not None:
            subjects = [each.state for each in person.job.subjects.all()]
            assert (person.job.state, subjects) == JOBS[name]


@pytest.mark.parametrize(
    ("name", "words"), [("used", "Nobody can change it"), ("proof_differs", "This does not match")]
)
def test_a_proof_matches_or_does_not(gallery: Gallery, name: str, words: str) -> None:
    page = Page("proof", name)
    assert words in signed_in(gallery.who(name), again=True).get(page.path(gallery)).content.decode()


def test_a_number_is_grouped_where_people_read_it_and_in_no_address_field_or_code(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if each whole number were a long one."""

    def grouped(value: Any, *_: Any, use_l10n: bool | None = None, **__: Any) -> str:
        return str(value) if use_l10n is False else f"⟨{value}⟩"

    monkeypatch.setattr(formats, "number_format", grouped)
    seen, wrong = 0, {}
    for page in {page.route: page for page in PAGES_OF_OURS}.values():
        client = signed_in(gallery.who(page.who), again=True) if page.who else Client()
        html = client.get(page.path(gallery)).content.decode()
        seen += html.count("⟨")
        html = re.sub(r' (?:aria-label|data-label)="[^"]*"', "", html)
        wrong[page.name] = re.findall(r"<[^>]*⟨[^>]*>|<code[^>]*>[^<]*⟨[^<]*", html)
    assert {name: found for name, found in wrong.items() if found} == {}
    assert seen > 100


def count(gallery: Gallery, page: Page, path: str) -> int:
    client = signed_in(gallery.who(page.who), again=True) if page.who else Client()
    with CaptureQueriesContext(connection) as queries:
        answer = client.get(path)
    assert answer.status_code == 200, page.name
    assert len(answer.content) + sum(map(compressed, SKIN)) <= FIRST_VIEW, page.name
    return len(queries)


def test_few_queries_and_a_light_page_however_much_there_is(gallery: Gallery) -> None:
    paths = [(page, page.path(gallery)) for page in PAGES_OF_OURS]  # while there is one of each

    def counted() -> dict[str, int]:
        return {page.name: count(gallery, page, path) for page, path in paths}

    for page, path in {page.route: (page, path) for page, path in paths}.values():
        count(gallery, page, path)  # what is read once for a process is not the page's
    fill(gallery, FEW)  # whatever has a page of its own, a next page or a banner has it by now
    few = counted()
    fill(gallery, ROWS)
    many = counted()
    assert {name: (few[name], many[name]) for name in few if many[name] > min(few[name], MOST)} == {}


def fill(gallery: Gallery, rows: int) -> None:
    """So many rows of everything that a page may list."""
    now = timezone.now()
    patients = [
        Patient(name=f"Patient {n} Example", record_id=random_id(), proofed_at=now) for n in range(rows)
    ]
    Patient.objects.bulk_create(patients, batch_size=500)
    Requester.objects.bulk_create([Requester(name=f"Asker {n}") for n in range(rows)], batch_size=500)
    unread = gallery.people["in_review"].question
    assert unread is not None
    copies(unread, rows, lambda n: {"patient": patients[n]})
    for name in GROWN:
        person = gallery.people[name]
        assert person.question is not None
        each = rows // len(GROWN)
        asked = copies(person.question, each, lambda n: {})
        if person.consent is not None:
            copies(person.consent, each, lambda n, asked=asked: {"request": asked[n]})
        row = AuditRow.objects.filter(subject=person.patient.pseudonym).latest("pk")
        AuditRow.objects.bulk_create(
            [
                AuditRow(subject=row.subject, kind="job.released", line=row.line, recorded_at=now)
                for _ in range(each)
            ],
            batch_size=500,
        )
    fill_with_uses(gallery, rows)


def fill_with_uses(gallery: Gallery, rows: int) -> None:
    """Results that wait, news, copies of one's own, emergencies, disagreements."""
    used, copied, urgent = (gallery.people[name] for name in ("used", "own_copy", "emergency"))
    assert used.job is not None
    assert copied.copy is not None
    assert urgent.emergency is not None
    subjects = used.job.subjects
    subject, first = subjects.get(number=0), subjects.count()
    made = copies(subject, rows, lambda n: {"number": first + n})
    copies(Output.objects.get(subject=subject), rows, lambda n: {"subject": made[n]})
    for person in (used, urgent):
        copies(News.objects.filter(patient=person.patient).latest("pk"), rows, lambda n: {})
    copies(copied.copy, rows, lambda n: {})
    copies(urgent.emergency, rows, lambda n: {})
    conflict = Conflict.objects.filter(patient=gallery.people["disagreed"].patient).latest("opened_at")
    copies(conflict, rows, lambda n: {})


def copies(row: models.Model, many: int, changes: Any) -> list[Any]:
    """As many rows like `row`, each with an id of its own."""
    kept = {
        field.attname: getattr(row, field.attname)
        for field in row._meta.concrete_fields
        if not field.primary_key
    }
    made = []
    for number in range(many):
        changed = changes(number)
        fields = {name: value for name, value in kept.items() if name.removesuffix("_id") not in changed}
        id = {"pk": random_id()} if isinstance(row._meta.pk, models.CharField) else {}
        made.append(type(row)(**id, **fields, **changed))
    return type(row)._default_manager.bulk_create(made, batch_size=500)


# Last of all, for it ends what the others look at.
@pytest.mark.parametrize(
    "page",
    [
        Page("staff_emergency_records", "clinician", of="emergency"),
        Page("own_copy_page", "own_copy"),
        Page("choose", "due_today"),
    ],
    ids=lambda page: page.name,
)
def test_what_is_about_to_end_is_begun_anew(gallery: Gallery, page: Page) -> None:
    before, person = page.path(gallery), gallery.people[page.about]
    for access in (person.emergency, person.copy):
        if access is not None:
            access.expires_at = timezone.now() + SOON / 2
    if person.question is not None:
        person.question.answer_by = timezone.localdate() - timedelta(days=1)
    gallery.renew(page.about)
    assert page.path(gallery) != before
    assert signed_in(gallery.who(page.who), again=True).get(page.path(gallery)).status_code == 200
