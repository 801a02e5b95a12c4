"""`manage.py decide < cases.ndjson`: what the contract says to FHIR consents, a request and FHIR resources.

It needs no database and no installation. A line in is `{"consents": [FHIR R4 or R5 Consent…],
"request": {…}, "resources": [FHIR resource…]}`; docs/contract.md lists what a request may say. A line that
cannot be understood is answered with an error and the others still with decisions; the exit status is then 1.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NoReturn

from django.core.management.base import BaseCommand

from gateway.labels.labelling import Labels, label
from ledger.contract import canonical, duo, labels, purposes, times
from ledger.contract.consents import DOUBT, codes_of, compile_consent, name_of
from ledger.contract.decision import decide
from ledger.contract.errors import Refused
from ledger.contract.items import item_of, subject_of
from ledger.contract.rules import CompiledRules

Json = dict[str, Any]
MAX_LINE = 16 * 2**20

# What a request may say → the names under which it may say so.
_NAMES = {
    "action": ("action",),
    "at": ("at", "time"),
    "author": ("author",),
    "codes": ("codes", "code"),
    "custodian": ("custodian",),
    "date": ("date", "dataDate", "dataPeriod", "data_date"),
    "encounter": ("encounter",),
    "labels": ("labels", "label", "securityLabel", "securityLabels", "security_labels"),
    "model": ("model", "modelDigest", "model_digest"),
    "patient": ("patient", "subject"),
    "purpose": ("purpose", "purposeOfUse", "purpose_of_use"),
    "recipient": ("recipient", "actor"),
    "resources": ("resources",),
    "types": ("types", "type", "class", "resourceType", "resourceTypes", "resource_types"),
    "use": ("use", "duo"),
}
_MEANING = {name: meaning for meaning, names in _NAMES.items() for name in names}


class Command(BaseCommand):
    help = (
        "Decide cases of FHIR consents, a request and resources: one JSON object a line on standard input, "
        'one out. A line: {"consents": [Consent, ...], "request": {"purpose": "HRESCH", "recipient": '
        '"Organization/helix", "at": "2026-11-22T12:00:00Z", "types": ["Observation"]}, '
        '"resources": [resource, ...]}. docs/contract.md has the words of a request. Needs no database.'
    )
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        failed = False
        for number, line in enumerate(_lines(sys.stdin.buffer), start=1):
            if line is not None and not line.strip():
                continue
            try:
                answer = answer_case(line)
            except Refused as error:
                failed = True
                answer = {"error": error.code, "line": number, "message": error.message}
            self.stdout.write(canonical.dumps(answer).decode())
        if failed:
            sys.exit(1)


def _lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """Lines of at most MAX_LINE bytes; None for a longer one, which is read away piece by piece."""
    while line := stream.readline(MAX_LINE + 1):
        if len(line) <= MAX_LINE or line.endswith(b"\n"):
            yield line
            continue
        while (rest := stream.readline(MAX_LINE)) and not rest.endswith(b"\n"):
            pass
        yield None


def answer_case(line: bytes | None) -> Json:
    """The answer to one case. Raises Refused with a code and a sentence that names no one."""
    if line is None:
        raise Refused("line_too_long", f"A line may be {MAX_LINE} bytes long. Split the case.")
    case = canonical.loads(line, limit=MAX_LINE + 1, decimals=True)
    if not isinstance(case, dict) or case.keys() - {"consents", "request", "resources", "id"}:
        _malformed("a case has consents, request and resources")
    consents = case.get("consents")
    if not isinstance(consents, list) or not isinstance(case.get("request"), dict):
        _malformed("consents must be a list and request an object")
    resources = case.get("resources", [])
    if not isinstance(resources, list) or not all(isinstance(one, dict) for one in resources):
        _malformed("resources must be a list of FHIR resources")
    request, at, patient = _request(case["request"])
    compiled = [compile_consent(one, consent=str(index), patient="-") for index, one in enumerate(consents)]
    patients = {_patient(one) for one in consents} | {patient}
    patients.discard(None)
    if len(patients) > 1:
        raise Refused(
            "several_patients", "The consents and the request are of different patients. Split them."
        )
    decision = decide(compiled, request, at=at)
    answer = decision.as_json()
    del answer["rules"]
    if decision.consent is not None:
        index = int(decision.consent)
        answer["consent"] = consents[index].get("id", index)
    whose = next(iter(patients), None)
    answer["resources"] = _judge(resources, CompiledRules(decision.rules), whose)
    return answer


def _patient(consent: Json) -> str | None:
    return _name(consent.get("patient", consent.get("subject")))


def _judge(resources: list[Json], rules: CompiledRules, patient: str | None) -> Json:
    """`Type/id` → permit or deny. A resource of another patient is none of these consents' business."""
    labelled = _labels(resources)
    verdicts: Json = {}
    for index, resource in enumerate(resources):
        permitted = rules.permits(item_of(resource, labelled[index]))[0]
        subject = subject_of(resource)
        if patient is not None and subject is not None and subject != patient:
            permitted = False
        kind, identifier = resource.get("resourceType"), resource.get("id", f"#{index}")
        name = f"{kind}/{identifier}"
        if not isinstance(kind, str) or not isinstance(identifier, str) or not name.isascii():
            _malformed("a resource has a resourceType and an id of FHIR's form")
        # Of two resources with one name, the stricter answer stands.
        verdicts[name] = "permit" if permitted and verdicts.get(name) != "deny" else "deny"
    return verdicts


def _labels(resources: list[Json]) -> list[list[str]]:
    """What each says in meta.security, and what the rules put on it."""
    known: dict[str, Labels | None] = {}
    for _ in range(2):  # the second time, what refers to another resource finds it labelled
        for resource in resources:
            known[f"{resource.get('resourceType')}/{resource.get('id')}"] = _by_rule(resource, known)
    return [
        sorted({*_by_source(one), *(found.codes if (found := _by_rule(one, known)) else ())})
        for one in resources
    ]


def _by_rule(resource: Json, known: Mapping[str, Labels | None]) -> Labels | None:
    try:
        return label(resource, known)
    except (AttributeError, TypeError, ValueError):
        return None  # not FHIR: no rule can tell


def _by_source(resource: Json) -> list[str]:
    meta = resource.get("meta")
    found = meta.get("security") if isinstance(meta, dict) else None
    codings = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    return [str(one["code"]) for one in codings if one.get("system") in labels.SYSTEMS and one.get("code")]


def _request(said: Json) -> tuple[Json, int, str | None]:
    """The request in the contract's form, its time, and the patient if it names one."""
    if unknown := said.keys() - _MEANING.keys():
        _malformed(f"words of the request that are not known: {len(unknown)}; see docs/contract.md")
    given = {_MEANING[name]: value for name, value in said.items() if value is not None}
    use = [_duo(one) for one in _many(given.get("use"))]
    codes = [_code(one) for one in _many(given.get("purpose"))]
    request: Json = {
        "action": _code(given.get("action", "access"))[1],
        "labels": [_code(one)[1] for one in _many(given.get("labels"))],
        "model": given.get("model"),
        # DUO codes may stand among the purposes, as they do in a Consent.
        "purpose": [code for system, code in codes if system != duo.SYSTEM],
        "recipient": [_name(one) or DOUBT for one in _many(given.get("recipient"))],
        "use": [*use, *(code for system, code in codes if system == duo.SYSTEM)],
        "version": 1,
    }
    if any(system not in (*purposes.SYSTEMS, duo.SYSTEM, None) for system, _ in codes):
        request["purpose"] = ["unknown"]
    if not isinstance(request["model"], (str, type(None))):
        _malformed("the request's model must be a digest in hex")
    for name in ("encounter", "author", "custodian"):
        if name in given:
            request[name] = _name(given[name]) or _malformed(f"the request's {name} is no reference")
    if "date" in given:
        request["start"], request["end"] = _date(given["date"])
    if (resources := _resources(given)) is not None:
        request["resources"] = resources
    return request, _at(given.get("at")), _name(given["patient"]) if "patient" in given else None


def _resources(given: Json) -> list[Json] | None:
    """What is asked for: `resources` ([{"type", "codes"}] or types), or `types` and `codes`."""
    codes = [_concept_code(one) for one in _many(given.get("codes"))] or None
    kinds = [*_many(given.get("types")), *_many(given.get("resources"))]
    if not kinds and "types" not in given and "resources" not in given:
        return None if codes is None else _malformed("codes need the types of the resources that carry them")
    found = []
    for kind in kinds:
        if isinstance(kind, dict) and "type" in kind:
            own = [_concept_code(one) for one in _many(kind.get("codes"))] or codes
            found.append({"codes": own, "type": str(kind["type"])})
        else:
            found.append({"codes": codes, "type": _code(kind)[1]})
    return found


def _at(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if (span := times.span(value)) is None:
        _malformed("the request's at must be a FHIR dateTime")
    return span[0]


def _date(value: Any) -> tuple[int | None, int | None]:
    """First and last second of the data that is asked for."""
    found = times.period(value) if isinstance(value, dict) else times.span(value)
    if found is None:
        _malformed("the request's date must be a FHIR date or Period")
    return found[0], None if found[1] is None else found[1] - 1


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _code(value: Any) -> tuple[str | None, str]:
    """System and code of a code, a Coding or a CodeableConcept."""
    if isinstance(value, str):
        system, _, code = value.rpartition("|")
        return system or None, code
    if isinstance(value, dict):
        codings = value.get("coding", [value])
        if isinstance(codings, list) and len(codings) == 1 and isinstance(codings[0], dict):
            given, named = codings[0].get("system"), codings[0].get("code")
            if isinstance(named, str) and isinstance(given, (str, type(None))):
                return given, named
    _malformed("a code of the request is neither a code, a Coding nor a CodeableConcept")


def _duo(value: Any) -> str:
    return value if isinstance(value, str) else _code(value)[1]


def _concept_code(value: Any) -> str:
    if isinstance(value, str) and "|" in value:
        return value
    found = codes_of(value if isinstance(value, dict) and "coding" in value else {"coding": [value]})
    return found[0] if found else _malformed("a code of the resources needs its system")


def _name(value: Any) -> str | None:
    """A reference as string or FHIR Reference, or an Identifier."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, dict) and "value" in value:
        value = {"identifier": value}
    name = name_of(value)
    return None if name == DOUBT else name


def _malformed(why: str) -> NoReturn:
    raise Refused("case_malformed", f"The case cannot be understood: {why}.")
