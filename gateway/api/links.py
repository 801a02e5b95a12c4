"""What follows on what in the OpenAPI document: an answer's id is the next call's parameter (its "links")."""

from typing import Any

ID = {"id": "$response.body#/id"}
OWN = {"id": "$request.path.id"}
# Operation and status → the operations that follow, with what they take from the answer.
LINKS: dict[tuple[str, str], dict[str, dict[str, str]]] = {
    ("ask_for_consent", "201"): {"read_consent_request": ID},
    ("start_job", "202"): {"read_job": ID, "cancel_job": ID, "follow_job": ID},
    ("list_jobs", "200"): {"read_job": {"id": "$response.body#/jobs/0/id"}},
    ("read_job", "200"): {
        name: {**OWN, "subject": "$response.body#/subjects/0/subject"}
        for name in ("read_result", "prove_result")
    }
    | {"read_summary": {**OWN, "digest": "$response.body#/summaries/0"}},
    ("register_webhook", "201"): {"list_webhook_calls": ID, "delete_webhook": ID},
    ("list_webhooks", "200"): {"list_webhook_calls": {"id": "$response.body#/webhooks/0/id"}},
    ("list_webhook_calls", "200"): {
        "resend_webhook_call": {**OWN, "call": "$response.body#/calls/0/id"},
    },
}


def add_links(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """A postprocessing hook of drf-spectacular: the document with the links in it."""
    for methods in result["paths"].values():
        for each in methods.values():
            for status, answer in each.get("responses", {}).items():
                if follow := LINKS.get((each.get("operationId"), status)):
                    answer["links"] = {
                        name: {"operationId": name, "parameters": parameters}
                        for name, parameters in follow.items()
                    }
    return result
