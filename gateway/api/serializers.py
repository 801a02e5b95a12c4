"""The shapes of requests and answers, as the OpenAPI document shows them."""

from typing import Any

from rest_framework import serializers

from consent.explanation import SENSITIVE
from gateway.accounts.webhooks import EVENTS
from gateway.analysis.services import MOST_SUBJECTS

DIGEST = r"^[0-9a-f]{64}$"


class Strict(serializers.Serializer[Any]):
    """Refuses members that it does not know: a misspelt restriction must not vanish silently."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := sorted(set(data) - set(self.fields))):
            raise serializers.ValidationError({name: ["There is no such member."] for name in unknown})
        return super().to_internal_value(data)


class ConsentRequestIn(Strict):
    referral_code = serializers.CharField(max_length=64, help_text="from the patient; used once")
    kind = serializers.ChoiceField(
        ["analyse", "export"],
        default="analyse",
        help_text="to run a model on the records here, or to have a de-identified copy of them",
    )
    model = serializers.RegexField(
        DIGEST, required=False, help_text="SHA-256 of an approved model, hex; none for an export"
    )
    purpose = serializers.CharField(max_length=20, help_text="v3-ActReason code, for example HRESCH")
    use = serializers.ListField(
        child=serializers.RegexField(r"^[A-Z]{2,5}$"), max_length=20, default=list, help_text="DUO codes"
    )
    kinds = serializers.ListField(
        child=serializers.RegexField(r"^[A-Z][A-Za-z]{2,40}$"),
        min_length=1,
        max_length=20,
        help_text="FHIR resource types that the model needs",
    )
    sensitive = serializers.ListField(
        child=serializers.ChoiceField(sorted(SENSITIVE)),
        max_length=20,
        default=list,
        help_text="v3-ActCode sensitivity codes; the patient is asked about each on its own",
    )
    what_for = serializers.CharField(max_length=300, help_text="in plain words, for the patient")
    who_sees = serializers.CharField(max_length=300, help_text="who sees the result, in plain words")
    what_can_go_wrong = serializers.CharField(max_length=2000, help_text="in plain words, with numbers")
    share_until = serializers.DateField()
    answer_by = serializers.DateField()
    signature_required = serializers.BooleanField(
        default=False, help_text="only a yes that the patient signs with a passkey counts"
    )


class ReviewReasonOut(serializers.Serializer[Any]):
    code = serializers.CharField()
    detail = serializers.CharField()


class ReviewOut(serializers.Serializer[Any]):
    state = serializers.ChoiceField(["waiting", "sent_back", "passed"])
    reasons = ReviewReasonOut(many=True, help_text="why it was sent back; ask again with a new referral code")


class ConsentRequestOut(serializers.Serializer[Any]):
    id = serializers.RegexField(DIGEST)
    available = serializers.BooleanField(
        help_text="a consent is in force; false for waiting, refused, ended and stopped alike"
    )
    review = ReviewOut(help_text="the hospital reads each question before a patient does")
    deletion_asked_at = serializers.DateTimeField(
        allow_null=True,
        help_text="the patient asks you to delete what you got; null where not, or once you confirmed it",
    )


class JobIn(Strict):
    model = serializers.RegexField(DIGEST)
    purpose = serializers.CharField(max_length=20)
    use = serializers.ListField(child=serializers.RegexField(r"^[A-Z]{2,5}$"), max_length=20, default=list)
    requests = serializers.ListField(
        child=serializers.RegexField(DIGEST),
        min_length=1,
        max_length=MOST_SUBJECTS,
        required=False,
        help_text="consent requests whose patients the job is about; all of yours for this model if left out",
    )
    index_date = serializers.DateField(
        required=False, help_text="the model sees nothing later than this; today if left out"
    )


class JobBrief(serializers.Serializer[Any]):
    id = serializers.RegexField(DIGEST)
    kind = serializers.ChoiceField(["analyse", "export"])
    state = serializers.ChoiceField(["queued", "running", "done", "failed", "cancelled"])
    code = serializers.CharField(allow_blank=True, help_text="why it failed, or what it waits for")
    model = serializers.CharField(allow_blank=True, help_text="digest; an export has none")
    purpose = serializers.CharField()
    index_date = serializers.DateField()
    created_at = serializers.DateTimeField()
    settled_at = serializers.DateTimeField(allow_null=True)
    results_until = serializers.DateTimeField(
        allow_null=True, help_text="the results are kept so long; a stop ends one before that"
    )


class SubjectOut(serializers.Serializer[Any]):
    subject = serializers.CharField(help_text="the patient's only name within this job")
    request = serializers.CharField(help_text="the consent request as you named it")
    state = serializers.ChoiceField(["queued", "delivered", "not_available"])
    digest = serializers.RegexField(DIGEST, allow_null=True, help_text="SHA-256 of the sealed result")
    review = serializers.ChoiceField(
        ["preliminary", "final", "cancelled", "entered-in-error"],
        allow_null=True,
        help_text="what the clinic says of the result, as a FHIR RiskAssessment.status",
    )


class JobOut(JobBrief):
    subjects = SubjectOut(many=True)
    release_tx = serializers.CharField(
        allow_null=True, help_text="the ledger transaction that let the job in"
    )
    deliver_tx = serializers.CharField(
        allow_null=True, help_text="the ledger transaction that let its results out"
    )


class JobListOut(serializers.Serializer[Any]):
    jobs = JobBrief(many=True)
    next = serializers.CharField(allow_null=True, help_text="`before` of the next page")


class DecisionIn(Strict):
    request = serializers.RegexField(DIGEST, help_text="a consent request of yours")
    kind = serializers.ChoiceField(["analyse", "export"], default="analyse")
    model = serializers.RegexField(DIGEST, required=False, help_text="digest; none for an export")
    purpose = serializers.CharField(max_length=20)
    use = serializers.ListField(child=serializers.RegexField(r"^[A-Z]{2,5}$"), max_length=20, default=list)
    resources = serializers.ListField(
        child=serializers.RegexField(r"^[A-Z][A-Za-z]{2,40}$"), min_length=1, max_length=200
    )


class DecisionsIn(Strict):
    decisions = DecisionIn(many=True, min_length=1, max_length=1000)  # type: ignore[call-arg]


class DecisionOut(serializers.Serializer[Any]):
    request = serializers.RegexField(DIGEST)
    decision = serializers.ChoiceField(["permit", "deny", "not_available"])
    reasons = serializers.ListField(
        child=serializers.CharField(), help_text="codes, on your own consents in force alone"
    )
    consent = serializers.CharField(allow_null=True, help_text="your consent that permits it")


class DecisionsOut(serializers.Serializer[Any]):
    decisions = DecisionOut(many=True)


class WebhookIn(Strict):
    url = serializers.CharField(max_length=500, help_text="https, on the public internet")
    events = serializers.ListField(child=serializers.ChoiceField(sorted(EVENTS)), min_length=1, max_length=5)


class WebhookOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    url = serializers.CharField()
    events = serializers.ListField(child=serializers.CharField())
    created_at = serializers.DateTimeField()


class WebhookMadeOut(WebhookOut):
    secret = serializers.CharField(help_text="signs the calls; shown this once")


class WebhooksOut(serializers.Serializer[Any]):
    webhooks = WebhookOut(many=True)


class WebhookCallOut(serializers.Serializer[Any]):
    id = serializers.CharField()
    event = serializers.CharField()
    state = serializers.ChoiceField(["pending", "delivered", "failed"])
    tries = serializers.IntegerField()
    status = serializers.IntegerField(help_text="HTTP's; 0: no answer")
    tried_at = serializers.DateTimeField(allow_null=True)
    body = serializers.JSONField()


class WebhookCallsOut(serializers.Serializer[Any]):
    calls = WebhookCallOut(many=True)


class ProblemOut(serializers.Serializer[Any]):
    type = serializers.URLField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField()
    detail = serializers.CharField()
    request_id = serializers.CharField()
    errors = serializers.JSONField(required=False)  # type: ignore[assignment]
