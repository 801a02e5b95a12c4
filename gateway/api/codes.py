"""Every code that the API answers with: its status, its title, how to mend it. Its page is at the `type` URL.

A code that is missing here has no page: tests/api/test_developers.py looks for each in the sources.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """`status` is the usual one; a job that failed carries some of these as its `code` instead."""

    status: int
    title: str
    mend: str


ASK_AGAIN = (
    "Nothing was changed. Send the same request again in a few minutes, with the same Idempotency-Key."
)
NOT_A_QUESTION = "The question is not one that a patient can be asked: `detail` says what to change."
AN_EXPORT = "`detail` says what an export or a search understands."
OURS = "This is a failure of ours. Send us the request id."

CODES: dict[str, Code] = {
    "action": Code(400, "The request is not valid", NOT_A_QUESTION),
    "address": Code(400, "That address cannot be called", "Give an https address on the public internet."),
    "address_unreachable": Code(
        503,
        "Your address did not answer",
        "See that it answers within 5 seconds.",
    ),
    "card": Code(
        400,
        "The model card is not readable",
        "An object of texts, whole numbers and lists, 20,000 bytes at most.",
    ),
    "child_failed": Code(500, "The job failed here", OURS),
    "child_no_subject": Code(500, "The job failed here", OURS),
    "child_timeout": Code(500, "The job took too long", "Name fewer patients, or tell us."),
    "child_no_summary": Code(500, "The job failed here", OURS),
    "child_memory": Code(500, "The job needed too much memory", "Name fewer patients, or tell us."),
    "chunk_missing": Code(500, "A sealed record is missing", OURS),
    "cohort_only": Code(
        400, "Name a cohort", "This model tells of a group, and of nobody in it: run it over a cohort."
    ),
    "database_unavailable": Code(503, "The database cannot be written to or reached", ASK_AGAIN),
    "dates": Code(
        400, "The dates do not fit", "The answer is due today or later, and before the sharing ends."
    ),
    "denied": Code(404, "Not available", "A client reads this as `not_available`."),
    "envelope_tampered": Code(500, "A sealed record does not open", OURS),
    "error": Code(500, "Something went wrong here", OURS),
    "events": Code(400, "Name what you want to be told", "One or more of consent.changed and job.updated."),
    "export_failed": Code(
        500, "The export failed", "Kick off another. If that fails too, send us the request id."
    ),
    "forbidden": Code(
        403, "Your client may not do this", "Ask for a token with the scope that `detail` names."
    ),
    "group": Code(400, "Name one Group", "Export one Group at a time: GET /fhir/Group lists yours."),
    "hard_to_read": Code(400, "The text is hard to read", "Write sentences of at most 20 words."),
    "idempotency_key_missing": Code(
        400,
        "Send an Idempotency-Key",
        "Send a header Idempotency-Key of 1 to 128 visible characters, new each time.",
    ),
    "idempotency_key_reused": Code(
        422, "That Idempotency-Key was used for another request", "Use a new key for each new request."
    ),
    "index_date": Code(400, "The index date lies in the future", "Give today's date or an earlier one."),
    "invalid_client": Code(
        401,
        "Your client did not show who it is",
        "`error_description` says what is wrong with the assertion.",
    ),
    "invalid_input": Code(
        400, "The request is not valid", "`errors` names the members that are missing or wrong."
    ),
    "job_settled": Code(409, "The job has ended", "There is nothing left to cancel."),
    "key_set": Code(
        400, "That is not a key set of ours", "Register public RSA keys of 2048 bits or more, or P-384."
    ),
    "keyholder_unavailable": Code(503, "The records cannot be opened now", ASK_AGAIN),
    "kinds": Code(
        400,
        "The kinds of record are not known",
        "Name FHIR resource types that a patient can be asked for.",
    ),
    "ledger_catching_up": Code(
        503, "The ledger's news is still being read", "Wait: the job goes on by itself."
    ),
    "ledger_not_committed": Code(503, "The ledger did not take it", ASK_AGAIN),
    "ledger_outcome_unknown": Code(503, "The ledger has not answered yet", ASK_AGAIN),
    "ledger_prepare_failed": Code(503, "The ledger did not endorse it", ASK_AGAIN),
    "ledger_proof_failed": Code(503, "The ledger's answer could not be proved", ASK_AGAIN),
    "ledger_send_failed": Code(503, "The ledger cannot be reached", ASK_AGAIN),
    "ledger_unavailable": Code(503, "The ledger cannot be reached", ASK_AGAIN),
    "log_differs": Code(500, "The log is not what the ledger sealed", OURS),
    "malformed": Code(
        400, "The body is not readable", "Send JSON without duplicate members or NaN, 1 MiB at most."
    ),
    "method_not_allowed": Code(405, "This address does not take that method", "See the OpenAPI document."),
    "model": Code(
        400,
        "Name a model, or ask for a copy",
        "A question names an approved model; one for a copy names none.",
    ),
    "model_not_approved": Code(
        400,
        "That model is not approved for you",
        "Register this version at /api/v1/models; the hospital approves it.",
    ),
    "no_stream_free": Code(429, "No event stream is free", "Poll the job as Retry-After says."),
    "not_acceptable": Code(406, "This address answers with JSON only", "Accept application/json."),
    "not_available": Code(
        404,
        "Not available",
        "There is nothing here for you: refused, stopped, never asked and unknown look the same.",
    ),
    "not_found": Code(404, "There is no such page", "See the OpenAPI document."),
    "not_linked": Code(
        409, "This patient has no records here yet", "The clinic has to link the patient first."
    ),
    "not_open": Code(409, "The question is closed", "Ask again with a new referral code."),
    "onnx_inputs": Code(
        500,
        "The model's file does not fit its card",
        "It takes one row of float32 for the card's inputs and gives float32. Register a version that does.",
    ),
    "onnx_malformed": Code(
        500, "The model's file is none that is run", "Register a version whose file onnxruntime takes."
    ),
    "onnx_missing": Code(500, "The job failed here", OURS),
    "output_format": Code(400, "The files are NDJSON", AN_EXPORT),
    "parameter": Code(400, "That parameter is not understood", AN_EXPORT),
    "peers_behind": Code(503, "The ledger's peers are behind", ASK_AGAIN),
    "piece_too_large": Code(500, "One patient's copy is too large", "Ask for fewer types, or use _since."),
    "prefer": Code(
        400, "Send Prefer: respond-async", "An export takes time: it answers with a status address."
    ),
    "purpose": Code(400, "The purpose is not known", "Use a v3-ActReason code, such as HRESCH."),
    "reading_too_old": Code(503, "The ledger answered too late", ASK_AGAIN),
    "refused": Code(409, "The state does not allow this", "`detail` says what would."),
    "registered_already": Code(
        409, "That version is registered already", "GET /api/v1/models/<digest> says how it stands."
    ),
    "releases_held": Code(
        503, "The hospital looks into something first", "Wait: the job goes on once that is settled."
    ),
    "resource_type": Code(400, "Not a type of FHIR R4", AN_EXPORT),
    "scope": Code(
        400,
        "A scope or a filter is not understood",
        "Use category, code or status, as in code=system|code.",
    ),
    "sensitive": Code(
        400, "That is no sensitive kind we know", "Use one of the v3-ActCode codes that docs/api.md lists."
    ),
    "since": Code(400, "_since is not an instant", "Send one instant, such as 2026-01-31T12:00:00Z."),
    "subjects": Code(
        400, "Name 1 to 1,000 consent requests", "A job is about consent requests of yours, by their ids."
    ),
    "suspended": Code(409, "The hospital takes nothing from you now", "Ask the hospital why."),
    "tested": Code(400, "The test is not one", "On 100 people or more; no more wrong than were tested."),
    "too_few": Code(
        409,
        "Too few patients",
        "A cohort is used from a certain number on: wait for more answers, or take a filter away.",
    ),
    "too_many_cohorts": Code(409, "Too many cohorts wait", "Wait until the hospital has decided on some."),
    "too_many_jobs": Code(429, "Too many jobs under way", "Wait for one of them, or cancel one."),
    "too_many_models": Code(409, "Too many versions wait", "Wait until the hospital has decided on some."),
    "too_many_requests": Code(429, "Too many requests", "Wait as Retry-After says."),
    "too_many_webhooks": Code(409, "Too many webhooks", "End one that you do not need any more."),
    "type_filter": Code(400, "That _typeFilter is not understood", AN_EXPORT),
    "unauthenticated": Code(401, "Sign in first", "The token is missing or has ended. Get a new one."),
    "trained_on": Code(
        400, "These are no exports of yours", "Name jobs of the kind export that were delivered to you."
    ),
    "unknown_model": Code(400, "No such model here", "The digest is that of no model of the catalogue."),
    "unknown_purpose": Code(400, "The purpose is not known", "Use a v3-ActReason code, such as HRESCH."),
    "unknown_use": Code(400, "The use is not known", "Use at most 20 DUO codes."),
    "unsupported_media_type": Code(415, "Send application/json", "Set Content-Type: application/json."),
    "use": Code(400, "The use is not known", "Use DUO codes, such as HMB."),
    "what_for": Code(400, "Say what the records are for", "In at most 300 characters, in plain words."),
    "whole_cohort": Code(
        400,
        "This model tells of the whole cohort, today",
        "Leave out `kinds`, `given_since` and `index_date`.",
    ),
    "wish": Code(400, "Say whom you want to ask", "In at most 500 characters, in plain words."),
    "worker_lost": Code(500, "The job's workers died", OURS),
}
