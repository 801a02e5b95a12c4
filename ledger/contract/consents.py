"""A FHIR Consent (R4 or R5) compiled to the canonical consent: the form that is committed to and decided on.

Sources: FHIR R4 `Consent.provision`, FHIR R5 `Consent.decision` and `Consent.provision`, IHE PCF.
A criterion that cannot be understood never widens: it is kept as a doubt, and a permit in doubt does
not reach anything while a deny in doubt reaches everything.

Two elements are this product's own use of FHIR. The digest of an AI model stands in an extension `AI_MODEL`
(valueString, 64 hex digits, may repeat) on the provision that it binds, or on the R5 Consent. DUO codes
stand as codings in `provision.purpose` (system `duo.SYSTEM`), diseases for DUO's DS beside them (system
`duo.DISEASES`).
"""

import hmac
import re
from hashlib import sha256
from typing import Any, NoReturn

from ledger.contract import canonical, duo, labels, purposes, times
from ledger.contract.errors import Refused
from ledger.contract.resource_types import RESOURCE_TYPES

Json = dict[str, Any]

AI_MODEL = "https://consent-gateway.example/fhir/StructureDefinition/ai-model"
FORMAT = 1
MAX_BYTES = 64 * 1024
MAX_DEPTH = 8
STATUSES = frozenset(
    {"draft", "proposed", "active", "rejected", "inactive", "entered-in-error", "not-done", "unknown"}
)
ACTIONS = frozenset({"collect", "access", "use", "disclose", "correct"})
DOUBT = "?"  # in a list of alternatives: one that cannot be understood

_HEX64 = re.compile(r"[0-9a-f]{64}")
_MONDO = re.compile(r"(?:http://purl\.obolibrary\.org/obo/MONDO_|MONDO[:_])?(\d{7})", re.ASCII)
_REFERENCE = re.compile(r"(?:https?://[^\s|#]{1,900}/)?[A-Z][A-Za-z]{1,63}/[A-Za-z0-9.\-]{1,64}", re.ASCII)
_ACTION_SYSTEMS = {
    "http://terminology.hl7.org/CodeSystem/consentaction",
    "http://hl7.org/fhir/consentaction",
    None,
}
_TYPE_SYSTEMS = {"http://hl7.org/fhir/resource-types", "http://hl7.org/fhir/fhir-types", None}
_PARTICIPATION = {
    "http://terminology.hl7.org/CodeSystem/v3-ParticipationType",
    "http://hl7.org/fhir/v3/ParticipationType",
    None,
}
_ROLES = {"IRCP": "recipients", "PRCP": "recipients", "CST": "custodians", "AUT": "authors"}
_SCOPES = {"patient-privacy", "research"}
_MEANINGS = {"instance", "related", "dependents", "authoredby"}

_RESOURCE = {
    "resourceType",
    "id",
    "meta",
    "language",
    "text",
    "contained",
    "extension",
    "identifier",
    "status",
}
_R4 = _RESOURCE | {
    "scope", "category", "patient", "dateTime", "performer", "organization", "sourceAttachment",
    "sourceReference", "policy", "policyRule", "verification", "provision",
}  # fmt: skip
_R5 = _RESOURCE | {
    "category", "subject", "date", "period", "grantor", "grantee", "manager", "controller",
    "sourceAttachment", "sourceReference", "regulatoryBasis", "policyBasis", "policyText", "verification",
    "decision", "provision",
}  # fmt: skip
_PROVISION = {
    "id",
    "extension",
    "period",
    "actor",
    "action",
    "securityLabel",
    "purpose",
    "code",
    "dataPeriod",
    "data",
}
_R4_PROVISION = _PROVISION | {"type", "class", "provision"}
_R5_PROVISION = _PROVISION | {"resourceType", "provision"}


def compile_consent(fhir: object, *, consent: str, patient: str) -> Json:
    """The canonical consent of a FHIR R4 or R5 Consent; the shape tells which.

    `consent` is its id and `patient` the pseudonym that stands for the patient. The same input gives the same
    bytes. Raises Refused: `consent_malformed`, `consent_too_large`. See docs/contract.md for the shape.
    """
    if not isinstance(fhir, dict) or fhir.get("resourceType") != "Consent":
        _malformed("it is not a FHIR Consent")
    if not isinstance(fhir.get("status"), str):
        _malformed("Consent.status is missing")
    is_r5 = _is_r5(fhir)
    provision, base = _r5_root(fhir) if is_r5 else _r4_root(fhir)
    given = times.span(fhir.get("date" if is_r5 else "dateTime"))
    starts, expires = provision.get("period", (None, None))
    compiled = {
        "base": base,
        "consent": consent,
        "expires": expires,
        "fhir": "R5" if is_r5 else "R4",
        "format": FORMAT,
        "given": given[0] if given else None,
        "patient": patient,
        "provision": provision,
        "starts": starts,
        "status": fhir["status"] if fhir["status"] in STATUSES else "unknown",
    }
    if len(canonical.dumps(compiled)) > MAX_BYTES:
        raise Refused("consent_too_large", f"A consent may take {MAX_BYTES} bytes. Use fewer provisions.")
    return compiled


def commitment(key: bytes, consent: bytes) -> str:
    """HMAC-SHA256 of the canonical consent's bytes under its own 32-byte key, in hex."""
    return hmac.new(key, consent, sha256).hexdigest()


def _malformed(why: str) -> NoReturn:
    raise Refused("consent_malformed", f"The consent cannot be read: {why}.")


def _is_r5(fhir: Json) -> bool:
    r5 = bool(fhir.keys() & (_R5 - _R4)) or isinstance(fhir.get("provision"), list)
    r4 = bool(fhir.keys() & (_R4 - _R5)) or isinstance(fhir.get("provision"), dict)
    if r4 and r5:
        _malformed("it mixes elements of FHIR R4 and R5")
    return r5


def _r4_root(fhir: Json) -> tuple[Json, str]:
    """R4: the root provision has a type (IHE PCF), or takes it from policyRule; deny where neither speaks."""
    source = fhir.get("provision", {})
    if not isinstance(source, dict):
        _malformed("Consent.provision must be an object")
    policy = _policy(fhir.get("policyRule"))
    kind, base = (source["type"], "provision.type") if "type" in source else (policy or "deny", "policyRule")
    if base == "policyRule" and policy is None:
        base = "none"
    node = _provision(source, kind=kind, path="Consent.provision", is_r5=False, depth=1)
    doubts = _root_doubts(fhir, _R4)
    if base == "policyRule" and kind == "permit" and _could_be_an_exception(node):
        doubts.append("policyRule")
    _bind_models(node, fhir, doubts)
    return _with_doubts(node, doubts), base


def _r5_root(fhir: Json) -> tuple[Json, str]:
    """R5: `decision` is the base, `period` bounds it, each level of provisions excepts from the one above."""
    decision = fhir.get("decision", "deny")
    node: Json = {"path": "Consent", "type": _type(decision)}
    doubts = _root_doubts(fhir, _R5)
    if "decision" not in fhir:
        # Then nobody can say what its provisions except from.
        doubts.append("decision")
    if "period" in fhir:
        _put_period(node, "period", fhir["period"], doubts)
    _bind_models(node, fhir, doubts)
    _put_provisions(node, fhir.get("provision", []), is_r5=True, depth=1)
    return _with_doubts(node, doubts), "decision" if "decision" in fhir else "none"


def _policy(rule: object) -> str | None:
    """What R4's policyRule says: OPTIN permits, OPTOUT denies; None where it says neither, or both."""
    codes = {
        coding.get("code") for coding in _codings(rule) if coding.get("system") in {*labels.SYSTEMS, None}
    }
    return {(True, False): "permit", (False, True): "deny"}.get(("OPTIN" in codes, "OPTOUT" in codes))


def _could_be_an_exception(node: Json) -> bool:
    """Whether a root without a type under OPTIN could as well mean "everything but this".

    R4 calls the root both a constraint on the base policy and an exception to it, and HL7's own examples
    use both. A period or a purpose constrains, and with a permit nested inside both readings agree. A root
    that merely points at people, records or authors does not say which, so it permits nothing.
    """
    points = node.keys() & {"recipients", "custodians", "authors", "data"}
    settled = (
        "period" in node or "purposes" in node or "use" in node or "conditions" in node or "models" in node
    )
    return (
        bool(points)
        and not settled
        and not any(one["type"] == "permit" for one in node.get("provisions", []))
    )


def _root_doubts(fhir: Json, known: set[str]) -> list[str]:
    doubts = sorted(fhir.keys() - known)
    if "scope" in fhir and not any(one.get("code") in _SCOPES for one in _codings(fhir["scope"])):
        doubts.append("scope")
    return doubts


def _with_doubts(node: Json, doubts: list[str]) -> Json:
    if found := sorted({*node.get("not_understood", []), *(name[:64] for name in doubts if name.isascii())}):
        node["not_understood"] = found
    elif doubts:
        node["not_understood"] = ["element"]
    return node


def _type(value: object) -> str:
    if value not in ("permit", "deny"):
        _malformed("a type or decision must be permit or deny")
    return str(value)


def _provision(source: object, *, kind: object, path: str, is_r5: bool, depth: int) -> Json:
    """One provision: only criteria that it states stand in the result; a missing one matches everything."""
    if not isinstance(source, dict):
        _malformed("a provision must be an object")
    if depth > MAX_DEPTH:
        raise Refused("consent_too_large", f"Provisions may be nested {MAX_DEPTH} deep. Use fewer levels.")
    node: Json = {"path": path, "type": _type(kind)}
    doubts = sorted(source.keys() - (_R5_PROVISION if is_r5 else _R4_PROVISION))
    for name in ("period", "dataPeriod"):
        if name in source:
            _put_period(node, {"dataPeriod": "data_period"}.get(name, name), source[name], doubts)
    for name, put in _LISTS.items():
        if name in source:
            value = source[name]
            # An empty list would match everything: it is no list that FHIR allows.
            if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
                doubts.append(name)
            else:
                put(node, [_plain(one) for one in value], doubts)
    _bind_models(node, source, doubts)
    _put_provisions(node, source.get("provision", []), is_r5=is_r5, depth=depth)
    return _with_doubts(node, doubts)


def _put_provisions(node: Json, nested: object, *, is_r5: bool, depth: int) -> None:
    if not isinstance(nested, list):
        _malformed("nested provisions must be a list")
    opposite = "deny" if node["type"] == "permit" else "permit"
    provisions = [
        _provision(
            one,
            # R4 requires a type here: one that does not say so does not permit.
            kind=opposite if is_r5 else one.get("type", "deny") if isinstance(one, dict) else None,
            path=f"{node['path']}.provision[{index}]",
            is_r5=is_r5,
            depth=depth + 1,
        )
        for index, one in enumerate(nested)
    ]
    if provisions:
        node["provisions"] = provisions


def _put_period(node: Json, name: str, value: object, doubts: list[str]) -> None:
    if (found := times.period(value)) is None:
        doubts.append(name)
    else:
        node[name] = list(found)


def _put(node: Json, name: str, found: list[str]) -> None:
    if found:
        node[name] = sorted({*node.get(name, []), *found})


def _put_actors(node: Json, actors: list[Json], doubts: list[str]) -> None:
    for actor in actors:
        roles = {
            _ROLES.get(str(one.get("code"))) for one in _codings(actor.get("role")) if _is_participation(one)
        }
        role = roles.pop() if len(roles) == 1 else None
        if role is None or actor.keys() - {"id", "extension", "role", "reference"}:
            doubts.append("actor")
        else:
            _put(node, role, [name_of(actor.get("reference"))])
    if "actor" in doubts:
        _widen_deny(node, *_ROLES.values())


def _widen_deny(node: Json, *criteria: str) -> None:
    """One of several alternatives is not understood: those that are must not narrow a deny to themselves."""
    if node["type"] == "deny":
        for name in criteria:
            node.pop(name, None)


def _is_participation(coding: Json) -> bool:
    return coding.get("system") in _PARTICIPATION


def name_of(reference: object) -> str:
    """A FHIR Reference as one string: `Type/id`, an absolute URL or `system|value`; else DOUBT."""
    if not isinstance(reference, dict) or reference.keys() - {
        "id", "extension", "reference", "type", "identifier", "display",
    }:  # fmt: skip
        return DOUBT
    if isinstance(text := reference.get("reference"), str):
        text = text.split("/_history/")[0]
        return text if _REFERENCE.fullmatch(text) else DOUBT
    identifier = reference.get("identifier")
    if isinstance(identifier, dict) and isinstance(value := identifier.get("value"), str) and value:
        system = identifier.get("system")
        return f"{system}|{value}" if isinstance(system, str) and system else DOUBT
    return DOUBT


def _put_actions(node: Json, concepts: list[Json], doubts: list[str]) -> None:
    for concept in concepts:
        codes = [str(one.get("code")) for one in _codings(concept) if one.get("system") in _ACTION_SYSTEMS]
        _put(node, "actions", [one for one in codes if one in ACTIONS] or [DOUBT])


def _put_labels(node: Json, codings: list[Json], doubts: list[str]) -> None:
    for coding in codings:
        code, system = coding.get("code"), coding.get("system")
        known = isinstance(code, str) and code and _is_plain(coding)
        if known and system is None:
            known = code in labels.KNOWN
        elif known and "Confidentiality" in str(system):
            known = system in labels.SYSTEMS and code in labels.LEVEL
        elif known:
            known = system in labels.SYSTEMS and code not in labels.LEVEL
        _put(node, "labels", [str(code) if known else DOUBT])


def _put_purposes(node: Json, codings: list[Json], doubts: list[str]) -> None:
    """Purposes of use and DUO permissions are alternatives; DUO conditions bind, all of them."""
    for coding in codings:
        code, system = coding.get("code"), coding.get("system")
        if not isinstance(code, str) or not _is_plain(coding):
            doubts.append("purpose")
        elif system == duo.SYSTEM:
            name = duo.name(code)
            if name is None:
                doubts.append("purpose")
            else:
                _put(node, "use" if name in duo.PERMISSIONS else "conditions", [name])
        elif system == duo.DISEASES:
            _put(node, "diseases", [disease(code) or DOUBT])
        elif system in purposes.SYSTEMS or (system is None and code in purposes.KNOWN):
            _put(node, "purposes", [code if code in purposes.KNOWN else DOUBT])
        else:
            doubts.append("purpose")
    if "purpose" in doubts:
        _widen_deny(node, "purposes", "use", "conditions", "diseases")


def disease(code: str) -> str | None:
    """`MONDO:0005148` from any of its spellings."""
    match = _MONDO.fullmatch(code)
    return f"MONDO:{match[1]}" if match else None


def _put_types(node: Json, codings: list[Json], doubts: list[str]) -> None:
    for coding in codings:
        known = (
            coding.get("system") in _TYPE_SYSTEMS
            and coding.get("code") in RESOURCE_TYPES
            and _is_plain(coding)
        )
        _put(node, "types", [str(coding["code"]) if known else DOUBT])


def _put_codes(node: Json, concepts: list[Json], doubts: list[str]) -> None:
    for concept in concepts:
        _put(node, "codes", codes_of(concept) or [DOUBT])


def codes_of(concept: object) -> list[str]:
    """`system|code` of each coding of a CodeableConcept that has both."""
    return [
        f"{one['system']}|{one['code']}"
        for one in _codings(concept)
        if isinstance(one.get("system"), str) and isinstance(one.get("code"), str) and one["code"]
    ]


def _put_data(node: Json, data: list[Json], doubts: list[str]) -> None:
    found = []
    for one in data:
        name = name_of(one.get("reference"))
        if one.get("meaning") not in _MEANINGS or name == DOUBT or one.keys() - {
            "id", "extension", "meaning", "reference",
        }:  # fmt: skip
            found.append([DOUBT, DOUBT])
        else:
            found.append([str(one["meaning"]), name])
    node["data"] = [list(pair) for pair in sorted({(meaning, name) for meaning, name in found})]


def _bind_models(node: Json, source: Json, doubts: list[str]) -> None:
    """Reads the AI_MODEL extensions of `source`; other extensions are no modifiers and may be passed over."""
    extensions = source.get("extension", [])
    if not isinstance(extensions, list):
        doubts.append("extension")
        return
    models = []
    for one in extensions:
        if isinstance(one, dict) and one.get("url") == AI_MODEL:
            value = one.get("valueString")
            models.append(value if isinstance(value, str) and _HEX64.fullmatch(value) else DOUBT)
    if models and node.get("models", sorted(set(models))) != sorted(set(models)):
        doubts.append("extension")
        _widen_deny(node, "models")
    elif models:
        node["models"] = sorted(set(models))


def _codings(concept: object) -> list[Json]:
    found = concept.get("coding") if isinstance(concept, dict) else None
    return [_plain(one) for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _plain(coding: Json) -> Json:
    """The same; what should be a string and is none becomes one that nobody understands."""
    strange: Json = {
        name: DOUBT
        for name in ("system", "code", "meaning")
        if name in coding and not isinstance(coding[name], str)
    }
    return {**coding, **strange} if strange else coding


def _is_plain(coding: Json) -> bool:
    return not coding.keys() - {"id", "extension", "system", "version", "code", "display", "userSelected"}


_LISTS = {
    "actor": _put_actors,
    "action": _put_actions,
    "securityLabel": _put_labels,
    "purpose": _put_purposes,
    "class": _put_types,
    "resourceType": _put_types,
    "code": _put_codes,
    "data": _put_data,
}
