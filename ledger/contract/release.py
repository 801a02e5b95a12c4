"""Release, the first door: it reads the consents and writes which of them a job's attempt may open.

Denials are committed too: they are evidence. What cannot be right at all is refused and commits nothing.
"""

from collections.abc import Mapping
from typing import Any

from ledger.contract import canonical, version
from ledger.contract.arguments import (
    MAX_CONSENTS,
    each,
    fields,
    invalid,
    is_count,
    is_hex,
    is_nonce,
    listed,
    optional,
    transient,
)
from ledger.contract.decision import Asking, decide
from ledger.contract.errors import Refused
from ledger.contract.in_force import IN_FORCE, standings
from ledger.contract.model import is_approved, model_key
from ledger.contract.openings import check_commitments, read_openings
from ledger.contract.requests import check_request
from ledger.contract.state import Json, Result, State, Transaction


def release_key(job: str, attempt: int) -> str:
    return f"release/{job}/{attempt}"


def deliver_key(job: str) -> str:
    return f"deliver/{job}"


def release(state: State, transaction: Transaction) -> Result:
    """Decides one attempt of a job over up to a thousand consents, each subject for itself."""
    args = fields(
        transaction.args,
        "arguments",
        job=is_hex,
        attempt=lambda it: is_count(it) and it > 0,
        model=optional(is_hex),
        request=is_hex,
        nonce=is_nonce,
        parts=lambda it: isinstance(it, list),
    )
    parts = _parts(args["parts"])
    consents = sorted(consent for part in parts for consent in part["consents"])
    secret = transient(transaction.transient, "request", "openings", optional=("subjects",))
    request = check_request(secret["request"])
    subjects = read_subjects(secret.get("subjects"), consents)
    # 1. The request is the one that the ledger will name, for the model that it will name.
    if canonical.digest(request) != args["request"] or request["model"] != args["model"]:
        raise Refused(
            "request_mismatch", "The request does not fit the digest or the model of the transaction."
        )
    # 2. The attempt is the job's next one, of the same request, and the job is not delivered.
    _check_attempt(state, args)
    # 3. The model is approved.
    if args["model"] is not None and not is_approved(state.get(model_key(args["model"]))):
        raise Refused("model_not_approved", "The AI model is not approved on the ledger. Approve it first.")
    # 4. The openings are those of the consents; a subject's consents go to one part, and so to one key.
    openings = read_openings(secret["openings"])
    found = in_force_now(state, consents, openings, transaction.time)
    homes = {consent: part["part"] for part in parts for consent in part["consents"]}
    if any(len({homes[consent] for consent in subject}) > 1 for subject in subjects):
        raise Refused("subject_split", "The consents of one subject must stand in one part.")
    # 5. Decide each subject; what is not in force denies its subject.
    permitted = permitted_subjects(subjects, found, openings, request, transaction.time)
    value = {
        "at": transaction.time,
        "consents": [
            {"consent": consent, "decision": "permit" if consent in permitted else "deny"}
            for consent in consents
        ],
        "contract": version.contract(),
        "decision": "permit" if permitted else "deny",
        "model": args["model"],
        "nonce": args["nonce"],
        "parts": [
            {**part, "consents": kept}
            for part in parts
            if (kept := [consent for consent in part["consents"] if consent in permitted])
        ],
        "request": args["request"],
    }
    state.put(release_key(args["job"], args["attempt"]), canonical.dumps(value))
    payload = {"attempt": args["attempt"], "decision": value["decision"], "job": args["job"]}
    return Result({**payload, "consents": value["consents"]}, ("Released", payload))


def in_force_now(
    state: State, consents: list[str], openings: Mapping[str, tuple[Json, bytes]], at: int
) -> dict[str, bool]:
    """Which consents the ledger shows in force; Refused where one is unknown or its opening does not fit."""
    values, found = standings(state, consents, at)
    if any(value is None for value in values):
        raise Refused("consent_unknown", "A consent of the transaction is not on the ledger.")
    check_commitments(
        openings,
        {
            consent: value["commitment"]
            for consent, value in zip(consents, values, strict=True)
            if value is not None
        },
    )
    return {consent: standing == IN_FORCE for consent, standing in zip(consents, found, strict=True)}


def permitted_subjects(
    subjects: list[list[str]],
    found: Mapping[str, bool],
    openings: Mapping[str, tuple[Json, bytes]],
    request: Json,
    at: int,
) -> set[str]:
    """The consents of the subjects that the contract permits."""
    permitted: set[str] = set()
    asking = Asking(request)
    for subject in subjects:
        if all(found[consent] for consent in subject):
            decision = decide([openings[consent][0] for consent in subject], asking, at=at)
            if decision.decision == "permit":
                permitted.update(subject)
    return permitted


def read_subjects(value: Any, consents: list[str]) -> list[list[str]]:
    """`[[consent ids], …]`, each consent in exactly one; without it each consent is a subject of its own."""
    if value is None:
        return [[consent] for consent in consents]
    subjects = listed(value, "subjects")
    if not all(each(is_hex, least=1)(subject) for subject in subjects):
        invalid("subjects")
    if sorted(consent for subject in subjects for consent in subject) != consents:
        raise Refused(
            "subjects_mismatch", "The subjects must hold each consent of the transaction exactly once."
        )
    return [sorted(subject) for subject in subjects]


def _parts(value: list[Any]) -> list[Json]:
    parts = [
        fields(one, "part", part=is_count, key=is_hex, consents=each(is_hex, least=1))
        for one in listed(value, "parts")
    ]
    consents = [consent for part in parts for consent in part["consents"]]
    distinct = len({part["part"] for part in parts}) == len(parts) == len({part["key"] for part in parts})
    if not distinct or len(set(consents)) != len(consents) or len(consents) > MAX_CONSENTS:
        invalid("parts")
    return [
        {**part, "consents": sorted(part["consents"])}
        for part in sorted(parts, key=lambda part: part["part"])
    ]


def _check_attempt(state: State, args: Json) -> None:
    job, attempt = args["job"], args["attempt"]
    own, before, delivered = state.get_many(
        [release_key(job, attempt), release_key(job, attempt - 1), deliver_key(job)]
    )
    if delivered is not None:
        raise Refused("already_delivered", "The job is delivered: nothing more is released to it.")
    if own is not None or (before is None) != (attempt == 1):
        raise Refused("attempt_out_of_order", "The attempt must be the job's last one plus one.")
    if before is not None:
        last = canonical.load_canonical(before)
        if last["request"] != args["request"]:
            raise Refused("request_changed", "A job's attempts must all be of one request. Make a new job.")
