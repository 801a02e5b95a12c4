"""Deliver, the second door: it reads the consents again and writes which sealed outputs may leave."""

from typing import Any

from ledger.contract import canonical
from ledger.contract.arguments import MAX_CONSENTS, each, fields, invalid, is_count, is_hex, listed, transient
from ledger.contract.errors import Refused
from ledger.contract.model import is_approved, model_key
from ledger.contract.openings import read_openings
from ledger.contract.release import (
    deliver_key,
    in_force_now,
    permitted_subjects,
    read_subjects,
    release_key,
)
from ledger.contract.requests import check_request
from ledger.contract.state import Json, Result, State, Transaction


def deliver(state: State, transaction: Transaction) -> Result:
    """Decides again, at this time, for each output; an output of several consents leaves only if all hold."""
    args = fields(
        transaction.args,
        "arguments",
        job=is_hex,
        attempt=lambda it: is_count(it) and it > 0,
        outputs=lambda it: isinstance(it, list),
    )
    outputs = _outputs(args["outputs"])
    consents = sorted({consent for output in outputs for consent in output["consents"]})
    if len(consents) > MAX_CONSENTS:
        invalid("outputs")
    secret = transient(transaction.transient, "request", "openings", optional=("subjects",))
    request = check_request(secret["request"])
    subjects = read_subjects(secret.get("subjects"), consents)
    # 1. The job is not delivered, and this is its last attempt, which was permitted.
    released = _released(state, args["job"], args["attempt"])
    # 2. The request is the released one, and no output stands on a consent that was not released.
    if canonical.digest(request) != released["request"]:
        raise Refused("request_mismatch", "The request is not the one that was released.")
    permitted = {consent for part in released["parts"] for consent in part["consents"]}
    if not permitted.issuperset(consents):
        raise Refused("not_released", "An output names a consent that was not released to this attempt.")
    # 3. The openings fit, and each subject is decided again. A model suspended meanwhile delivers nothing.
    openings = read_openings(secret["openings"])
    found = in_force_now(state, consents, openings, transaction.time)
    approved = released["model"] is None or is_approved(state.get(model_key(released["model"])))
    holding = (
        permitted_subjects(subjects, found, openings, request, transaction.time) if approved else set[str]()
    )
    value = {
        "at": transaction.time,
        "attempt": args["attempt"],
        "outputs": [output for output in outputs if holding.issuperset(output["consents"])],
        "withheld": [consent for consent in consents if consent not in holding],
    }
    state.put(deliver_key(args["job"]), canonical.dumps(value))
    payload = {
        "attempt": args["attempt"],
        "job": args["job"],
        "outputs": [output["output"] for output in value["outputs"]],
        "withheld": value["withheld"],
    }
    return Result(payload, ("Delivered", payload))


def _outputs(value: Any) -> list[Json]:
    outputs = [
        fields(one, "output", output=is_hex, consents=each(is_hex, least=1))
        for one in listed(value, "outputs")
    ]
    if len({output["output"] for output in outputs}) != len(outputs):
        invalid("outputs")
    return [
        {"consents": sorted(output["consents"]), "output": output["output"]}
        for output in sorted(outputs, key=lambda output: str(output["output"]))
    ]


def _released(state: State, job: str, attempt: int) -> Json:
    own, after, delivered = state.get_many(
        [release_key(job, attempt), release_key(job, attempt + 1), deliver_key(job)]
    )
    if delivered is not None:
        raise Refused("already_delivered", "The job is delivered already.")
    if own is None:
        raise Refused("not_released", "This attempt was not released.")
    if after is not None:
        raise Refused("attempt_superseded", "A later attempt was released: only the last one delivers.")
    found: Json = canonical.load_canonical(own)
    if found["decision"] != "permit":
        raise Refused("not_released", "This attempt was denied: there is nothing to deliver.")
    return found
