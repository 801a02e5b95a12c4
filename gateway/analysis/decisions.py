"""What a client may ask before it runs anything: would this be permitted, by what is in force now?

The contract's own rules over the readable copies of the consents in force. It opens nothing and promises
nothing: the ledger decides again at the release. Reasons are told on the client's own consents alone;
everything else is one answer, `not_available`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import Exists, OuterRef
from django.utils import timezone

from consent.models import Consent, ConsentRequest, Requester
from ledger.contract.consents import compile_consent
from ledger.contract.decision import Asking, Decision, decide
from ledger.contract.state import Json

MOST = 1000
NOT_AVAILABLE: Mapping[str, Any] = {"decision": "not_available", "reasons": [], "consent": None}


def in_force(requester: Requester) -> Any:
    """The consents that are in force by the readable copies, to questions that this requester knows."""
    return Consent.objects.in_force().filter(request__in=ConsentRequest.objects.named_by(requester))


def decide_all(*, requester: Requester, asked: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One answer for each of `asked` (1 to 1,000), in their order.

    Each names `request` (a consent request's id), `kind` (analyse or export), `model` (digest, None for an
    export), `purpose`, `use` and `resources` (FHIR types). Where no consent to this requester is in
    force, the database gives no row, whatever the reason: no time tells which.
    """
    named = {each["request"] for each in asked}
    to_it = Consent.objects.in_force().filter(request__requester=requester, patient=OuterRef("patient"))
    requests = ConsentRequest.objects.named_by(requester).filter(Exists(to_it), id__in=named)
    patient_of = dict(requests.values_list("id", "patient_id"))
    # Of nobody is asked, too: Django asks the database nothing about none.
    patients = {*patient_of.values()} or {""}
    speaking: dict[str, list[Json]] = {}
    own: set[str] = set()
    for consent in Consent.objects.in_force().filter(patient_id__in=patients).select_related("request"):
        compiled = compile_consent(consent.fhir, consent=consent.id, patient=consent.patient_id)
        speaking.setdefault(consent.patient_id, []).append(compiled)
        if consent.request.requester_id == requester.pk and consent.request.cohort_id is None:
            own.add(consent.id)
    now = int(timezone.now().timestamp())
    answers = []
    for each in asked:
        found = speaking.get(patient_of.get(each["request"], ""), [])
        asking = Asking(_request(requester, each))
        verdict = decide(found, asking, at=now)
        # Reasons come from the client's own consents: another's would tell that there is one.
        of_own = decide([one for one in found if one["consent"] in own], asking, at=now)
        answers.append({"request": each["request"], **_told(verdict, of_own, own)})
    return answers


def _told(verdict: Decision, of_own: Decision, own: set[str]) -> dict[str, Any]:
    """What the client is told: a permit of its own, why its own consent does not reach, or nothing."""
    if verdict.decision == "permit":
        consent = verdict.consent if verdict.consent in own else None
        return {"decision": "permit", "reasons": list(verdict.reasons), "consent": consent}
    # Another's deny, or no consent of ours in force: to this client they are the same as no such patient.
    if verdict.consent is not None or "no_consent" in of_own.reasons:
        return dict(NOT_AVAILABLE)
    return {"decision": "deny", "reasons": list(of_own.reasons), "consent": None}


def _request(requester: Requester, each: Mapping[str, Any]) -> Json:
    """The request as a job of that kind would make it (services.request_of)."""
    exports = each["kind"] == "export"
    return {
        "action": "disclose" if exports else "use",
        "model": None if exports else each.get("model"),
        "purpose": each["purpose"],
        "recipient": requester.reference,
        "resources": [{"codes": None, "type": kind} for kind in sorted(set(each["resources"]))],
        "use": sorted(set(each["use"])),
        "version": 1,
    }
