"""What a patient may know of the use of her data, GDPR articles 15 and 20: one answer in three forms.

`gather` is the answer as JSON values; `report` says the same in sentences, for a page and a PDF. The records
themselves are hers by her own copy (`/copy`), which the keyholder opens for her and for nobody here.
"""

import json
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from consent.explanation import KINDS, PURPOSES, SENSITIVE
from consent.kinds import name_of
from consent.models import Consent, ConsentRequest, Notice, Patient
from gateway.analysis.models import AIModel
from gateway.compliance import accounting, uses
from gateway.compliance.uses import Use
from gateway.documents import Said
from gateway.documents.report import Report, Section, Table

Json = dict[str, Any]
FORMAT = "consent-gateway access package 1"


def gather(patient: Patient) -> Json:
    """Everything as it stands now, in the active language. Times are RFC 3339 in UTC."""
    questions = list(
        ConsentRequest.objects.shown_to(patient).select_related("requester", "notice").order_by("asked_at")
    )
    answers = list(
        Consent.objects.filter(patient=patient)
        .select_related("request__requester", "request__notice", "notice", "patient")
        .order_by("decided_at")
    )
    used = uses.uses_of(patient)
    models = {each.model for each in questions if each.model} | {
        use.told["model"] for use in used if "model" in use.told
    }
    notices = {each.notice for each in questions} | {each.shown_notice for each in answers}
    return {
        "format": FORMAT,
        "made": _instant(timezone.now()),
        "controller": _controller(),
        "subject": {
            "name": patient.name,
            "born": patient.birth_date.isoformat() if patient.birth_date else None,
            "record": patient.record_id,
            "id": patient.pk,
            "name_in_the_log": patient.pseudonym,
        },
        "purposes": sorted({str(_said(each.what_for, each.language, each.purpose)) for each in questions}),
        "recipients": _recipients(questions, used),
        "categories": _categories(questions),
        "retention": retention(),
        "source": _("The health records that the hospital keeps, and what you told us in the portal."),
        "transfers": _("We know of no transfer to another country but to the recipients named here."),
        "rights": rights(),
        "questions": [_question(each) for each in questions],
        "choices": [_choice(each) for each in answers],
        "uses": [_use(each) for each in used],
        "models": [_model(each) for each in AIModel.objects.filter(digest__in=models).order_by("name")],
        "notices": [_notice(each) for each in sorted(notices, key=lambda each: each.pk)],
        "records": _("A copy of your health records is yours under “A copy of your own” in the portal."),
    }


def as_json(found: Json) -> bytes:
    return json.dumps(found, ensure_ascii=False, indent=1, sort_keys=True).encode()


def report(patient: Patient, found: Json) -> Report:
    """`found` in sentences."""
    controller = found["controller"]
    used = uses.uses_of(patient)
    sections = [
        Section(
            _("Who answers for your data"),
            [
                f"{controller['name']} {controller['address']}".strip(),
                _("Call %(phone)s.") % {"phone": controller["phone"]},
            ],
        ),
        Section(
            _("What it is for"),
            [] if found["questions"] else [_("Nobody has asked for anything yet.")],
            _purposes(found["questions"]),
        ),
        Section(
            _("Which kinds of data"),
            [", ".join(found["categories"]) or _("None were asked for.")],
        ),
        Section(
            _("Who received something"),
            [] if found["recipients"] else [_("Nobody did.")],
            table=_recipients_table(found["recipients"]),
        ),
        Section(_("How long we keep it"), items=found["retention"]),
        Section(_("Where the data come from"), [found["source"], found["transfers"]]),
        Section(_("Your rights"), items=found["rights"]),
        Section(
            _("Your choices"),
            [] if found["choices"] else [_("You made none yet.")],
            table=_choices_table(found["choices"]),
        ),
        Section(
            _("Every use"),
            [] if used else [_("No one has used your records.")],
            table=_uses_table(used),
        ),
        *(_model_section(each) for each in found["models"]),
        *(
            Section(
                _("Full text that you were shown: %(title)s (version %(n)d)")
                % {"title": each["title"], "n": each["version"]},
                [*(Said(part, each["language"]) for part in each["text"].split("\n\n")), each["sha256"]],
            )
            for each in found["notices"]
        ),
        Section(_("Your records"), [found["records"]]),
    ]
    about = [
        found["subject"]["name"],
        _("Made on %(when)s.") % {"when": date_format(timezone.localtime(), "DATETIME_FORMAT")},
        _("Made as articles 15 and 20 of the GDPR ask. The data file beside it says the same."),
    ]
    return Report(_("Your data and what we do with them"), about, sections)


def retention() -> list[str]:
    return [
        _("A sealed result for %(days)d days.") % {"days": settings.RESULT_DAYS},
        _("A sealed copy for a company for %(hours)d hours.") % {"hours": settings.EXPORT_HOURS},
        _("Choices, and the log of each use, for at least six years."),
        _("Health records as long as the law asks of a hospital."),
        _(
            "What is erased opens to nobody: its key is destroyed. In an older backup it can be opened until"
            " the keyholder's key of that time is destroyed too."
        ),
    ]


def rights() -> list[str]:
    return [
        _("See who used your records, with proof."),
        _("Have a copy of your records."),
        _("Have what is wrong put right: call us."),
        _("Stop sharing at any time, as easily as you said yes."),
        _("Ask us, and each company that got something, to delete it."),
        _("Ask that a person looks at any result of a computer program."),
        _("Complain to the data protection office of your country."),
    ]


def logic_of(card: Json) -> list[str]:
    """The logic of a model (article 15(1)(h)): what it reads, works out, and where it is wrong."""
    inputs = ", ".join(str(each["what"]) for each in card.get("inputs", ()))
    told = [
        _("What it works out: %(text)s.") % {"text": card["outcome"]} if card.get("outcome") else "",
        _("What it is for: %(text)s") % {"text": card["intended_use"]} if card.get("intended_use") else "",
        _("What goes into it: %(text)s.") % {"text": inputs} if inputs else "",
        _("Where it is from: %(text)s.") % {"text": card["paper"].rstrip(".")} if card.get("paper") else "",
        _("How it was tested: %(text)s") % {"text": card["tested_error"]} if card.get("tested_error") else "",
        *(str(each) for each in card.get("limits", ())),
        _("What it means for you: a person reads each result before it is used in your care."),
    ]
    return [text for text in told if text]


def _controller() -> Json:
    return {
        "name": settings.CUSTODIAN,
        "address": settings.CUSTODIAN_ADDRESS,
        "phone": settings.HELP_PHONE,
        "jurisdiction": settings.JURISDICTION,
    }


def _purposes(questions: list[Json]) -> list[Said]:
    asked = {(each["for"], each["language"], each["purpose"]) for each in questions}
    return [_said(*each) for each in sorted(asked)]


def _said(what_for: str, language: str, purpose: str) -> Said:
    """What somebody asks for, in their own words and in the standard's."""
    named = PURPOSES.get(purpose)
    return Said(what_for, language, f"({named})" if named else "")


def _categories(questions: list[ConsentRequest]) -> list[str]:
    kinds = {kind for each in questions for kind in each.kinds if kind in KINDS}
    private = {code for each in questions for code in each.sensitive if code in SENSITIVE}
    named = [*(name_of(kind) for kind in kinds), *(SENSITIVE[code].name for code in private)]
    return sorted(str(name) for name in named)


def _recipients(questions: list[ConsentRequest], used: list[Use]) -> list[Json]:
    """Who asked, and how many results or copies each received."""
    got: dict[str, int] = {}
    for use in used:
        if use.requester and use.at(uses.DELIVERED):
            got[str(use.requester.pk)] = got.get(str(use.requester.pk), 0) + 1
    asked = {each.requester for each in questions} | {use.requester for use in used if use.requester}
    return [
        {
            "name": each.name,
            "contact": each.contact,
            "id": each.reference,
            "received": got.get(str(each.pk), 0),
        }
        for each in sorted(asked, key=lambda each: each.name)
    ]


def _question(asked: ConsentRequest) -> Json:
    return {
        "id": asked.pk,
        "asked": _instant(asked.asked_at),
        "by": asked.requester.reference,
        "for": asked.what_for,
        "language": asked.language,
        "purpose": asked.purpose,
        "kinds": asked.kinds,
        "sensitive": asked.sensitive,
        "model": asked.model,
        "state": asked.state,
        "what_can_go_wrong": asked.what_can_go_wrong,
        "who_sees": asked.who_sees,
    }


def _choice(given: Consent) -> Json:
    return {
        "id": given.pk,
        "question": given.request_id,
        "who": given.request.requester.name,
        "decided": _instant(given.decided_at),
        "status": given.status,
        "ledger_state": given.ledger_state,
        "until": _instant(given.expires_at),
        "stopped": _instant(given.stopped_at),
        "notice": given.shown_notice.digest,
        "fhir": given.fhir,
    }


def _use(use: Use) -> Json:
    return {
        "id": use.key,
        "who": use.requester.name if use.requester else settings.CUSTODIAN,
        "purpose": use.purpose,
        "consent": use.told.get("consent"),
        "model": use.told.get("model"),
        "steps": [{"what": step.kind, "when": _instant(step.at), "leaf": step.leaf} for step in use.steps],
    }


def _model(model: AIModel) -> Json:
    tested = {"people": model.tested_people, "wrong": model.tested_wrong} if model.tested_people else None
    return {
        "name": model.name,
        "version": model.version,
        "digest": model.digest,
        "logic": logic_of(model.card),
        "tested_here": tested,
        "card": model.card,
    }


def _notice(notice: Notice) -> Json:
    return {
        "title": notice.title,
        "version": notice.version,
        "language": notice.language,
        "sha256": notice.digest,
        "text": notice.text,
    }


def _model_section(model: Json) -> Section:
    title = model["card"].get("title") or f"{model['name']} {model['version']}"
    told = list(model["logic"])
    if model["tested_here"]:
        told.append(_("Tested here: wrong for %(wrong)d of %(people)d people.") % model["tested_here"])
    heading = _("How this program works: %(name)s") % {"name": title}
    return Section(heading, [_("Its fingerprint: %(digest)s") % {"digest": model["digest"]}], told)


def _recipients_table(recipients: list[Json]) -> Table | None:
    rows = [[each["name"], each["contact"], str(each["received"])] for each in recipients]
    columns = [_("Who"), _("Contact"), _("Results or copies received")]
    return Table(columns, rows, (2, 2, 1)) if rows else None


def _choices_table(choices: list[Json]) -> Table | None:
    rows = [
        [_day(each["decided"]), each["who"], _answer(each), _day(each["until"]), _day(each["stopped"])]
        for each in choices
    ]
    columns = [_("When"), _("Who asked"), _("You said"), _("Until"), _("Stopped")]
    return Table(columns, rows, (1.3, 2, 1, 1.3, 1.3)) if rows else None


def _answer(choice: Json) -> str:
    return _("No") if choice["status"] == Consent.Status.REJECTED else _("Yes")


def _uses_table(used: list[Use]) -> Table | None:
    listed = [accounting.row_of(use) for use in used]
    rows = [
        [
            date_format(timezone.localtime(row.use.when), "DATETIME_FORMAT"),
            row.recipient,
            row.description,
            row.purpose,
            row.outcome,
        ]
        for row in listed
    ]
    columns = [_("When"), _("Who"), _("What"), _("What for"), _("What came of it")]
    return Table(columns, rows, (1.2, 1.2, 2, 2, 1.2)) if rows else None


def _day(instant: str | None) -> str:
    return date_format(timezone.localtime(datetime.fromisoformat(instant)), "DATE_FORMAT") if instant else "–"


def _instant(at: datetime | None) -> str | None:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else None
