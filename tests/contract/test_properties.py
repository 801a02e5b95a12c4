"""What holds for every consent: adding a deny, or narrowing a permit, never permits more."""

import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.contract.canonical import dumps
from ledger.contract.consents import compile_consent
from ledger.contract.decision import decide, permits, permits_chunk
from ledger.contract.errors import Refused
from ledger.contract.state import Json
from tests.contract.world import START

many = settings(max_examples=100, deadline=None)

ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
DUO = "http://purl.obolibrary.org/obo/duo.owl"
LABELS = {
    **dict.fromkeys(("N", "R", "V"), "v3-Confidentiality"),
    **dict.fromkeys(("HIV", "ETH", "ETHUD"), "v3-ActCode"),
}
CODES = ["http://loinc.org|2093-3", "http://loinc.org|8480-6"]
TYPES = ["Observation", "Condition"]


def some(values: list[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=2)


CRITERIA: dict[str, st.SearchStrategy[Any]] = {
    "period": st.sampled_from([{"start": "2020"}, {"end": "2027"}, {"start": "2028"}, {"end": "not a date"}]),
    "dataPeriod": st.sampled_from([{"start": "2020"}, {"start": "2020", "end": "2021-06"}, {"end": "2019"}]),
    "actor": some(
        [
            {"role": {"coding": [{"code": role}]}, "reference": {"reference": name}}
            for role, name in (
                ("IRCP", "Organization/helix"),
                ("PRCP", "Organization/orion"),
                ("IRCP", "#contained"),
                ("AUT", "Practitioner/bob"),
                ("WHAT", "Organization/helix"),
            )
        ]
    ),
    "action": some([{"coding": [{"code": code}]} for code in ("use", "access", "disclose", "juggle")]),
    "securityLabel": some(
        [
            {"system": f"http://terminology.hl7.org/CodeSystem/{system}", "code": code}
            for code, system in LABELS.items()
        ]
        + [{"system": "urn:unknown", "code": "Z"}]
    ),
    "purpose": some(
        [{"system": ACT_REASON, "code": code} for code in ("TREAT", "HRESCH", "CLINTRCH", "NEW")]
        + [{"system": DUO, "code": code} for code in ("GRU", "HMB", "DS", "NCU", "IRB", "???")]
    ),
    "class": some(
        [{"system": "http://hl7.org/fhir/resource-types", "code": code} for code in (*TYPES, "Unicorn")]
    ),
    "code": some(
        [{"coding": [{"system": "http://loinc.org", "code": code}]} for code in ("2093-3", "8480-6")]
        + [{"text": "?"}]
    ),
    "data": some(
        [
            {"meaning": meaning, "reference": {"reference": name}}
            for meaning in ("instance", "related", "authoredby")
            for name in ("Observation/1", "Encounter/7", "Practitioner/bob")
        ]
    ),
    "modifierExtension": st.just([{"url": "urn:x"}]),
}


@st.composite
def provisions(draw: st.DrawFn, depth: int = 2, least: int = 0) -> Json:
    """A provision of at most two criteria: with more, hardly any would ever match."""
    names = draw(st.lists(st.sampled_from(sorted(CRITERIA)), min_size=least, max_size=2, unique=True))
    found = {name: draw(CRITERIA[name]) for name in names}
    found["type"] = draw(st.sampled_from(["permit", "deny"]))
    if depth and (nested := draw(st.lists(provisions(depth - 1, 1), max_size=2))):
        found["provision"] = nested
    return found


requests = st.fixed_dictionaries(
    {
        "action": st.sampled_from(["use", "access", "disclose"]),
        "model": st.just(None),
        "purpose": st.sampled_from(["TREAT", "HRESCH", "CLINTRCH", "BTG"]),
        "recipient": st.sampled_from(["Organization/helix", "Organization/orion", "Organization/x"]),
        "resources": st.sampled_from([[{"type": kind, "codes": None}] for kind in TYPES] + [None]),
        "use": st.lists(st.sampled_from(["GRU", "HMB", "DS", "NCU", "IRB"]), max_size=3),
    }
)
items = st.fixed_dictionaries(
    {
        "type": st.sampled_from(TYPES),
        "id": st.just("1"),
        "labels": st.lists(st.sampled_from(sorted(LABELS)), unique=True, min_size=1, max_size=2),
        "codes": st.one_of(st.none(), some(CODES)),
        "start": st.sampled_from([None, 1_590_000_000]),
        "end": st.sampled_from([None, 1_590_000_000, 1_700_000_000]),
        "encounter": st.sampled_from([None, "Encounter/7", "Encounter/8"]),
        "author": st.sampled_from([None, "Practitioner/bob", "Practitioner/dana"]),
    }
)


def consent(provision: Json, name: str = "a") -> Json:
    fhir = {"resourceType": "Consent", "status": "active", "provision": provision}
    return compile_consent(fhir, consent=name, patient="p")


def permitted(consents: list[Json], request: Json, item: Json) -> bool:
    return permits(decide(consents, request, at=START).rules, item)[0]


@many
@given(provisions(), provisions(), requests, items)
def test_adding_a_denying_consent_never_permits_more(
    own: Json, other: Json, request: Json, item: Json
) -> None:
    before = [consent(own)]
    after = [*before, consent({**other, "type": "deny", "provision": []}, "b")]
    assert permitted(before, request, item) or not permitted(after, request, item)


@many
@given(provisions(), provisions(), requests, items)
def test_a_deny_nested_in_a_permit_never_permits_more(
    own: Json, inner: Json, request: Json, item: Json
) -> None:
    own = {**own, "type": "permit"}
    more = {**own, "provision": [*own.get("provision", []), {**inner, "type": "deny", "provision": []}]}
    assert permitted([consent(own)], request, item) or not permitted([consent(more)], request, item)


@many
@given(provisions(), st.data(), requests, items)
def test_narrowing_a_permit_never_permits_more(own: Json, data: Any, request: Json, item: Json) -> None:
    own = {**own, "type": "permit"}
    name = data.draw(st.sampled_from(sorted(CRITERIA)))
    own.pop(name, None)
    narrower = {**own, name: data.draw(CRITERIA[name])}
    assert permitted([consent(own)], request, item) or not permitted([consent(narrower)], request, item)


@many
@given(provisions(), st.data(), requests, items)
def test_widening_a_deny_never_permits_more(own: Json, data: Any, request: Json, item: Json) -> None:
    own = {**own, "type": "deny", "provision": []}
    name = data.draw(st.sampled_from(sorted(CRITERIA)))
    wider = {key: value for key, value in own.items() if key != name}
    everything = consent({"type": "permit"}, "b")
    before = permitted([consent(own), everything], request, item)
    assert before or not permitted([consent(wider), everything], request, item)


@many
@given(provisions(), requests, items)
def test_a_doubt_never_permits_more(own: Json, request: Json, item: Json) -> None:
    doubtful = {**own, "modifierExtension": [{"url": "urn:x"}]}
    everything = consent({"type": "permit"}, "b")
    for others in ([], [everything]):
        before = permitted([consent(own), *others], request, item)
        assert before or not permitted([consent(doubtful), *others], request, item)


@many
@given(st.lists(provisions(), max_size=3), requests, items)
def test_a_chunk_is_judged_as_its_items_are(own: list[Json], request: Json, item: Json) -> None:
    rules = decide([consent(one, str(n)) for n, one in enumerate(own)], request, at=START).rules
    verdict = permits_chunk(rules, item["type"], item["labels"])
    expected = {"permit": {True}, "deny": {False}, "mixed": {True, False}}[verdict]
    assert permits(rules, item)[0] in expected


@many
@given(st.lists(provisions(), max_size=3), requests, items)
def test_a_denied_request_leaves_nothing_to_any_item(own: list[Json], request: Json, item: Json) -> None:
    found = decide([consent(one, str(n)) for n, one in enumerate(own)], request, at=START)
    if found.decision == "deny":
        assert permits(found.rules, item)[0] is False
    assert dumps(found.as_json()) == dumps(
        decide([consent(one, str(n)) for n, one in enumerate(own)], request, at=START).as_json()
    )


ELEMENTS = [
    "actor", "code", "coding", "data", "decision", "extension", "period", "policyRule", "provision",
    "purpose", "reference", "role", "scope", "start", "system", "type", "url",
]  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["permit", "deny", "x"])
NONSENSE = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(ELEMENTS), inner, max_size=4),
)


@many
@given(st.dictionaries(st.sampled_from(ELEMENTS), NONSENSE, max_size=5))
def test_nonsense_is_refused_or_decided_and_says_permit_only_where_it_was_said(nonsense: Json) -> None:
    fhir = {**nonsense, "resourceType": "Consent", "status": "active"}
    compiled = None
    with contextlib.suppress(Refused):
        compiled = compile_consent(fhir, consent="a", patient="p")
    if compiled is not None:
        asked = {"action": "use", "purpose": "HRESCH", "recipient": "Organization/x"}
        assert (
            decide([compiled], asked, at=START).decision == "deny"
            or "permit" in repr(fhir)
            or "decision" in fhir
        )
