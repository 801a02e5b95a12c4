"""De-identification of FHIR R4 resources: only what RULES names is kept, everything else is withheld.

HIPAA Safe Harbor, 45 CFR 164.514(b)(2): none of its 18 identifiers can stand in what is kept, because no
kind of value below holds free text, a name, an address within a state, a number of a person or a thing, or
a date as it was. Ids become pseudonyms, keyed for each recipient; dates move by one number of days for
each patient and recipient. docs/deidentification.md has the rules in words. Used by the job child: no Django.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from ledger.contract.resource_types import RESOURCE_TYPES

Json = dict[str, Any]
Kind = Callable[["Identity", Any], Any]

# What a state is to Safe Harbor: elsewhere the element may name a province of a few thousand.
STATES = frozenset(
    """
    AL AK AZ AR CA CO CT DE FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM NY NC ND OH
    OK OR PA RI SC SD TN TX UT VT VA WA WV WI WY DC PR
    """.split()  # noqa: SIM905
)
OLDEST = 89  # years: Safe Harbor puts everybody above into one group
# How many years a unit of time is (UCUM: a mean Julian year).
YEARS = {
    unit: seconds / 31_557_600
    for unit, seconds in {
        "a": 31_557_600, "mo": 2_629_800, "wk": 604_800, "d": 86_400, "h": 3_600, "min": 60, "s": 1,
    }.items()
}  # fmt: skip
# A unit is made of these symbols of UCUM alone: braces may hold any words there, a name too.
_METRIC = r"[TGMkhdcmunpf]?(?:m|g|L|l|mol|Pa|eq|osm|kat|cal|U|\[i?I?U\]|J|W|V|Hz|N|Bq|Gy|Sv|bar)"
_PLAIN = (
    r"[mun]?s|%|min|h|d|wk|mo|a|Cel|K|deg|[mc]?m\[Hg\]|cm\[H2O\]|"
    r"\[(?:in_i|ft_i|lb_av|oz_av|degF|pH|ppm|ppb|drp|HPF|LPF|CFU|arb'U|diop)\]"
)
_NOTE = (
    r"\{(?:[TZ]-score|score|nominal|#|1\.73_m2|creat|Hb|beats|breaths|cells|copies|INR|ratio|index|titer|"
    r"percentile|tot|[RW]BCs?|CFU|count)\}"
)
_TERM = rf"(?:(?:10[*^]-?\d{{1,2}}|10{{0,4}}|(?:{_METRIC}|{_PLAIN})(?:-?[1-4])?)(?:{_NOTE})?|{_NOTE})"
UNIT = rf"/?{_TERM}(?:[./]{_TERM}){{0,3}}"
PSEUDONYMISED = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "PSEUDED",
    "display": "pseudonymized",
}
# Codes of public terminologies say what, never who, and each has its form. A local code might be a person's
# number.
TERMINOLOGIES = {
    system: re.compile(form)
    for form, *systems in (
        (r"\d{1,7}-\d|L[AP]\d{1,7}-\d", "http://loinc.org"),
        (r"\d{6,18}", "http://snomed.info/sct"),
        (r"\d{1,8}", "http://www.nlm.nih.gov/research/umls/rxnorm"),
        (r"[A-Z]\d\d[A-Z]{0,2}(\d\d)?", "http://www.whocc.no/atc"),
        (
            r"[A-Z]\d[0-9A-Z](\.[0-9A-Z]{1,4})?",
            "http://hl7.org/fhir/sid/icd-10",
            "http://hl7.org/fhir/sid/icd-10-cm",
            "http://fhir.de/CodeSystem/bfarm/icd-10-gm",
        ),
        (r"[EV]?\d{2,3}(\.\d{1,2})?", "http://hl7.org/fhir/sid/icd-9-cm"),
        (r"\d{1,3}", "http://hl7.org/fhir/sid/cvx"),
        (r"\d{4}[0-9A-Z]", "http://www.ama-assn.org/go/cpt"),
        (r"\d{5,6}|[A-Z]{2,8}", "http://dicom.nema.org/resources/ontology/DCM"),
        (UNIT, "http://unitsofmeasure.org"),
    )
    for system in systems
}
HL7 = "http://terminology.hl7.org/CodeSystem/"
# HL7's codes are words, as names are: each that may stay is listed.
CODES_OF_HL7 = {
    HL7 + name: frozenset(codes.split())
    for name, codes in {
        "admit-source": "hosp-trans emd outp born gp mp nursing psych rehab other",
        "allergyintolerance-clinical": "active inactive resolved",
        "allergyintolerance-verification": "unconfirmed confirmed refuted entered-in-error presumed",
        "claim-type": "institutional oral pharmacy professional vision",
        "condition-category": "problem-list-item encounter-diagnosis",
        "condition-clinical": "active recurrence relapse inactive remission resolved",
        "condition-ver-status": "unconfirmed provisional differential confirmed refuted entered-in-error",
        "data-absent-reason": "unknown asked-unknown not-asked asked-declined masked error not-applicable",
        "diagnosis-role": "AD DD CC CM pre-op post-op billing",
        "discharge-disposition": "home alt-home other-hcf hosp long aadvice exp psy rehab snf oth",
        "goal-achievement": "in-progress improving worsening no-change achieved sustaining not-achieved",
        "goal-priority": "high-priority medium-priority low-priority",
        "medicationrequest-category": "inpatient outpatient community discharge",
        "observation-category": "social-history vital-signs imaging laboratory procedure survey exam therapy",
        "processpriority": "stat normal deferred",
        "referencerange-meaning": "type normal recommended treatment therapeutic pre post endocrine",
        "v2-0074": "LAB RAD PAT MB HM CH CUS CT NMR US XRC GE CG IMM SP VUS",
        "v3-ActCode": "AMB EMER FLD HH IMP ACUTE NONAC OBSENC PRENC SS VR",
        "v3-ActPriority": "A CR EL EM P PRN R RR S T UD UR",
        "v3-Confidentiality": "N R V L M U",
        "v3-MaritalStatus": "A D I L M C P T U S W",
        "v3-NullFlavor": "UNK NI ASKU NAV NASK MSK NA OTH",
        "v3-ObservationInterpretation": "N A AA H HH L LL HU LU POS NEG IND DET ND S R I U D B W",
        "v3-RoleCode": "FAMMEMB MTH FTH SIS BRO SON DAU GRMTH GRFTH MGRMTH MGRFTH PGRMTH PGRFTH AUNT UNCLE",
    }.items()
}
# The codes that FHIR R4 itself fixes for the elements below that are `word`.
WORDS = frozenset(
    """
    a accepted active allergy amended Appointment appended arrived asap available biologic cancelled claim
    CommunicationRequest complete completed corrected current d DeviceRequest directive draft entered-in-error
    environment error female filler-order final finished food h health-unknown high in-progress inactive
    instance-order intended intolerance low male medication MedicationRequest mild min mo moderate not-done
    not-started not-taken NutritionOrder on-hold onleave option order original-order other partial plan
    planned preauthorization predetermination preliminary preparation proposal proposed queued reflex-order
    registered rejected revoked routine s scheduled ServiceRequest severe stat stopped superseded suspended
    Task triaged unable-to-assess unknown urgent VisionPrescription wk
    """.split()  # noqa: SIM905
)
# What a reference in this element is about, where it names no type of its own.
TYPE_OF_ELEMENT = {
    "subject": "Patient",
    "patient": "Patient",
    "encounter": "Encounter",
    "context": "Encounter",
}

_DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?(?:T.*)?", re.DOTALL)
_REFERENCE = re.compile(r"(?:.*/)?([A-Z][A-Za-z]{1,40})/([A-Za-z0-9.-]{1,64})(?:/_history/[^/]*)?")
_URN = re.compile(r"urn:(?:uuid|oid):([A-Za-z0-9.-]{1,64})")
_COUNTRY = re.compile(r"[A-Z]{2,3}")

NOTHING: Any = None


class Withheld(Exception):
    """The whole resource is withheld: it has no rules, or says that it means something else than it seems."""


@dataclass(frozen=True)
class Identity:
    """One patient for one recipient. `today` is the day on which an age is taken."""

    key: bytes  # 32 bytes, the recipient's
    patient: str  # the keyholder's id
    today: date

    @property
    def pseudonym(self) -> str:
        """20 hex characters that begin every id of this patient's resources."""
        return self._hmac("patient", self.patient)[:20]

    def id(self, own: str) -> str:
        """The pseudonym of a resource's id: 61 characters, a FHIR id."""
        return f"{self.pseudonym}-{self._hmac('resource', self.patient, own)[:40]}"

    @property
    def shift(self) -> timedelta:
        """1 to 365 days, into the past."""
        return timedelta(days=1 + int(self._hmac("shift", self.patient), 16) % 365)

    def _hmac(self, *parts: str) -> str:
        return hmac.new(self.key, "\0".join(parts).encode(), hashlib.sha256).hexdigest()


def deidentify(resource: Mapping[str, Any], identity: Identity) -> Json:
    """What of a resource may leave. Raises Withheld for a resource of which nothing may."""
    kind = resource.get("resourceType")
    rules = RULES.get(kind) if isinstance(kind, str) else None
    if rules is None or _has_modifier(resource):
        raise Withheld
    kept = _object(identity, resource, rules)
    own = resource.get("id")
    return {
        "resourceType": kind,
        **({"id": identity.id(own)} if isinstance(own, str) else {}),
        "meta": {"security": [PSEUDONYMISED]},
        **kept,
    }


def _has_modifier(value: Any) -> bool:
    """An extension of ours or theirs that changes the meaning, or words instead of it, anywhere in it."""
    if isinstance(value, Mapping):
        return (
            "modifierExtension" in value
            or "implicitRules" in value
            or any(_has_modifier(each) for name, each in value.items() if name != "contained")
        )
    return isinstance(value, list) and any(_has_modifier(each) for each in value)


def _object(identity: Identity, value: Mapping[str, Any], rules: Mapping[str, Any]) -> Json:
    kept: Json = {}
    for name, rule in rules.items():
        if name in value and (found := _value(identity, value[name], rule, name)) not in (None, [], {}):
            kept[name] = found
    return kept


def _value(identity: Identity, value: Any, rule: Any, name: str) -> Any:
    if isinstance(value, list):
        return [
            found for each in value if (found := _value(identity, each, rule, name)) not in (None, {}, [])
        ]
    if isinstance(rule, dict):
        return _object(identity, value, rule) if isinstance(value, Mapping) else NOTHING
    if rule is reference:
        return reference(identity, value, TYPE_OF_ELEMENT.get(name))
    return rule(identity, value)


# The kinds of value that may be kept. Each gives back a new value, or nothing.


def word(identity: Identity, value: Any) -> Any:
    """A FHIR code of a required binding, as in `status`."""
    return value if isinstance(value, str) and value in WORDS else NOTHING


def truth(identity: Identity, value: Any) -> Any:
    return value if isinstance(value, bool) else NOTHING


def number(identity: Identity, value: Any) -> Any:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else NOTHING


def coding(identity: Identity, value: Any) -> Any:
    """System and code of a public terminology; no display, which may be anybody's words."""
    if not isinstance(value, Mapping):
        return NOTHING
    system, code = value.get("system"), value.get("code")
    if not isinstance(system, str) or not isinstance(code, str):
        return NOTHING
    form = TERMINOLOGIES.get(system)
    is_known = form.fullmatch(code) if form else code in CODES_OF_HL7.get(system, ())
    return {"system": system, "code": code} if is_known else NOTHING


def concept(identity: Identity, value: Any) -> Any:
    """The codings of a CodeableConcept; no text."""
    codings = value.get("coding") if isinstance(value, Mapping) else None
    found = [each for one in codings if (each := coding(identity, one))] if isinstance(codings, list) else []
    return {"coding": found} if found else NOTHING


def quantity(identity: Identity, value: Any) -> Any:
    """A number with its UCUM unit, but for a time above 89 years, which is an age. A number whose unit stands
    in words alone is withheld."""
    if not isinstance(value, Mapping) or (size := number(identity, value.get("value"))) is None:
        return NOTHING
    unit = coding(identity, value)
    if unit is None and ("unit" in value or "code" in value or "system" in value):
        return NOTHING
    if unit and size * YEARS.get(unit["code"], 0) > OLDEST:
        return NOTHING
    comparator = (
        {"comparator": value["comparator"]} if value.get("comparator") in ("<", "<=", ">=", ">") else {}
    )
    return {"value": size, **comparator, **({"unit": unit["code"], **unit} if unit else {})}


def age(identity: Identity, value: Any) -> Any:
    """An age in years up to 89; whoever is older is not told apart by age."""
    found = quantity(identity, value)
    return found if found and found.get("code") == "a" and 0 <= found["value"] <= OLDEST else NOTHING


def ranged(identity: Identity, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return NOTHING
    return {
        name: found for name in ("low", "high") if (found := quantity(identity, value.get(name)))
    } or NOTHING


def ratio(identity: Identity, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return NOTHING
    both = {
        name: found for name in ("numerator", "denominator") if (found := quantity(identity, value.get(name)))
    }
    return both if len(both) == 2 else NOTHING


def day(identity: Identity, value: Any) -> Any:
    """A date, dateTime or instant as the day so many days before it, as exactly as it was given at most.

    One more than 89 years ago says that the patient is older than that, by its year alone."""
    found = _DATE.fullmatch(value) if isinstance(value, str) else None
    if found is None or identity.today.year - int(found[1]) > OLDEST:
        return NOTHING
    try:
        moved = date(int(found[1]), int(found[2] or 7), int(found[3] or 1)) - identity.shift
    except (ValueError, OverflowError):
        return NOTHING
    text = moved.isoformat()
    return text[:10] if found[3] else text[:7] if found[2] else text[:4]


def instant(identity: Identity, value: Any) -> Any:
    """As `day`, where FHIR wants an instant: the beginning of that day."""
    found = day(identity, value)
    return f"{found}T00:00:00Z" if found and len(found) == 10 else NOTHING


def period(identity: Identity, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return NOTHING
    return {name: found for name in ("start", "end") if (found := day(identity, value.get(name)))} or NOTHING


def birth_year(identity: Identity, value: Any) -> Any:
    """The year of birth, for whoever is at most 89 years old by the end of this year."""
    found = _DATE.fullmatch(value) if isinstance(value, str) else None
    if found is None or not 0 <= identity.today.year - int(found[1]) <= OLDEST:
        return NOTHING
    return found[1]


def region(identity: Identity, value: Any) -> Any:
    """Of an address the country, and the state of the United States, by their short codes."""
    if not isinstance(value, Mapping):
        return NOTHING
    state, country = value.get("state"), value.get("country")
    kept = {}
    if isinstance(state, str) and state in STATES and country in (None, "US", "USA"):
        kept["state"] = state
    if isinstance(country, str) and _COUNTRY.fullmatch(country):
        kept["country"] = country
    return kept or NOTHING


def reference(identity: Identity, value: Any, kind: str | None = None) -> Any:
    """`Type/<pseudonym>`; no display, no identifier, nothing contained."""
    target = value.get("reference") if isinstance(value, Mapping) else None
    if not isinstance(target, str):
        return NOTHING
    if (found := _REFERENCE.fullmatch(target)) and found[1] in RESOURCE_TYPES:
        return {"reference": f"{found[1]}/{identity.id(found[2])}"}
    if (found := _URN.fullmatch(target)) and kind:
        return {"reference": f"{kind}/{identity.id(found[1])}"}
    return NOTHING


_VALUE = {
    "valueQuantity": quantity,
    "valueCodeableConcept": concept,
    "valueBoolean": truth,
    "valueInteger": number,
    "valueRange": ranged,
    "valueRatio": ratio,
    "valueDateTime": day,
    "valuePeriod": period,
}
_DOSAGE = {
    "timing": {"repeat": {"frequency": number, "period": number, "periodUnit": word}, "code": concept},
    "asNeededBoolean": truth,
    "site": concept,
    "route": concept,
    "method": concept,
    "doseAndRate": {"type": concept, "doseQuantity": quantity, "doseRange": ranged, "rateQuantity": quantity},
}
_ONSET = {"onsetDateTime": day, "onsetPeriod": period, "onsetAge": age}
_REACTION = {
    "substance": concept,
    "manifestation": concept,
    "onset": day,
    "severity": word,
    "exposureRoute": concept,
}
_RESULT = {
    "status": word,
    "category": concept,
    "code": concept,
    "subject": reference,
    "encounter": reference,
    "effectiveDateTime": day,
    "effectivePeriod": period,
    "issued": instant,
}
_TAKEN = {
    "status": word,
    "category": concept,
    "medicationCodeableConcept": concept,
    "medicationReference": reference,
    "subject": reference,
    "context": reference,
    "effectiveDateTime": day,
    "effectivePeriod": period,
}
_OF_REFERENCE_RANGE = {"low": quantity, "high": quantity, "type": concept, "appliesTo": concept}

# FHIR R4 type -> the elements that are kept, each by its kind of value. A type that is not here is withheld.
RULES: dict[str, dict[str, Any]] = {
    "Patient": {
        "gender": word,
        "birthDate": birth_year,
        "deceasedBoolean": truth,
        "deceasedDateTime": day,
        "address": region,
        "maritalStatus": concept,
    },
    "Observation": {
        **_RESULT,
        **_VALUE,
        "dataAbsentReason": concept,
        "interpretation": concept,
        "bodySite": concept,
        "method": concept,
        "referenceRange": _OF_REFERENCE_RANGE,
        "hasMember": reference,
        "derivedFrom": reference,
        "component": {
            "code": concept,
            **_VALUE,
            "dataAbsentReason": concept,
            "interpretation": concept,
            "referenceRange": _OF_REFERENCE_RANGE,
        },
    },
    "Condition": {
        "clinicalStatus": concept,
        "verificationStatus": concept,
        "category": concept,
        "severity": concept,
        "code": concept,
        "bodySite": concept,
        "subject": reference,
        "encounter": reference,
        **_ONSET,
        "abatementDateTime": day,
        "abatementPeriod": period,
        "abatementAge": age,
        "recordedDate": day,
    },
    "MedicationRequest": {
        "status": word,
        "intent": word,
        "category": concept,
        "priority": word,
        "doNotPerform": truth,
        "medicationCodeableConcept": concept,
        "medicationReference": reference,
        "subject": reference,
        "encounter": reference,
        "authoredOn": day,
        "reasonCode": concept,
        "reasonReference": reference,
        "dosageInstruction": _DOSAGE,
    },
    "MedicationStatement": {
        **_TAKEN,
        "dateAsserted": day,
        "reasonCode": concept,
        "dosage": _DOSAGE,
    },
    "MedicationAdministration": {
        **_TAKEN,
        "reasonCode": concept,
        "dosage": {"route": concept, "method": concept, "dose": quantity, "rateQuantity": quantity},
    },
    "Procedure": {
        "status": word,
        "category": concept,
        "code": concept,
        "subject": reference,
        "encounter": reference,
        "performedDateTime": day,
        "performedPeriod": period,
        "performedAge": age,
        "reasonCode": concept,
        "reasonReference": reference,
        "bodySite": concept,
        "outcome": concept,
        "complication": concept,
    },
    "Immunization": {
        "status": word,
        "statusReason": concept,
        "vaccineCode": concept,
        "patient": reference,
        "encounter": reference,
        "occurrenceDateTime": day,
        "primarySource": truth,
        "site": concept,
        "route": concept,
        "doseQuantity": quantity,
    },
    "AllergyIntolerance": {
        "clinicalStatus": concept,
        "verificationStatus": concept,
        "type": word,
        "category": word,
        "criticality": word,
        "code": concept,
        "patient": reference,
        "encounter": reference,
        **_ONSET,
        "recordedDate": day,
        "lastOccurrence": day,
        "reaction": _REACTION,
    },
    "DiagnosticReport": {
        **_RESULT,
        "result": reference,
        "conclusionCode": concept,
    },
    "ImagingStudy": {
        "status": word,
        "modality": coding,
        "subject": reference,
        "encounter": reference,
        "started": day,
        "procedureCode": concept,
        "reasonCode": concept,
        "numberOfSeries": number,
        "numberOfInstances": number,
    },
    "DocumentReference": {
        "status": word,
        "type": concept,
        "category": concept,
        "subject": reference,
        "date": instant,
        "securityLabel": concept,
    },
    "Encounter": {
        "status": word,
        "class": coding,
        "type": concept,
        "serviceType": concept,
        "priority": concept,
        "subject": reference,
        "period": period,
        "length": quantity,
        "reasonCode": concept,
        "diagnosis": {"condition": reference, "use": concept, "rank": number},
        "hospitalization": {"admitSource": concept, "reAdmission": concept, "dischargeDisposition": concept},
        "partOf": reference,
    },
    "CarePlan": {
        "status": word,
        "intent": word,
        "category": concept,
        "subject": reference,
        "encounter": reference,
        "period": period,
        "created": day,
        "addresses": reference,
        "goal": reference,
        "activity": {"detail": {"kind": word, "code": concept, "reasonCode": concept, "status": word}},
    },
    "CareTeam": {
        "status": word,
        "category": concept,
        "subject": reference,
        "encounter": reference,
        "period": period,
        "reasonCode": concept,
    },
    "Goal": {
        "lifecycleStatus": word,
        "achievementStatus": concept,
        "category": concept,
        "priority": concept,
        "description": concept,
        "subject": reference,
        "startDate": day,
        "target": {"measure": concept, "detailQuantity": quantity, "detailRange": ranged, "dueDate": day},
        "statusDate": day,
        "addresses": reference,
    },
    "FamilyMemberHistory": {
        "status": word,
        "patient": reference,
        "date": day,
        "relationship": concept,
        "sex": concept,
        "condition": {"code": concept, "outcome": concept, "contributedToDeath": truth, "onsetAge": age},
    },
    "Device": {"status": word, "type": concept, "patient": reference},
    "Claim": {
        "status": word,
        "type": concept,
        "use": word,
        "patient": reference,
        "created": day,
        "billablePeriod": period,
        "priority": concept,
        "diagnosis": {
            "sequence": number,
            "diagnosisCodeableConcept": concept,
            "diagnosisReference": reference,
        },
        "procedure": {"sequence": number, "date": day, "procedureCodeableConcept": concept},
        "item": {
            "sequence": number,
            "productOrService": concept,
            "servicedDate": day,
            "servicedPeriod": period,
        },
    },
    "ExplanationOfBenefit": {
        "status": word,
        "type": concept,
        "use": word,
        "patient": reference,
        "created": day,
        "billablePeriod": period,
        "outcome": word,
        "diagnosis": {
            "sequence": number,
            "diagnosisCodeableConcept": concept,
            "diagnosisReference": reference,
        },
        "item": {
            "sequence": number,
            "productOrService": concept,
            "servicedDate": day,
            "servicedPeriod": period,
        },
    },
    "QuestionnaireResponse": {
        "status": word,
        "subject": reference,
        "encounter": reference,
        "authored": day,
    },
}
