"""The shapes of requests and answers, as the OpenAPI document shows them."""

from typing import Any

from rest_framework import serializers

from consent.explanation import SENSITIVE
from gateway.accounts.webhooks import EVENTS
from gateway.analysis.services import MOST_SUBJECTS

DIGEST = r"^[0-9a-f]{64}$"
# What stands as `state`, by a name of its own each in the OpenAPI document (settings.SPECTACULAR_SETTINGS).
REVIEW_STATES = ["waiting", "sent_back", "passed"]
JOB_STATES = ["queued", "running", "done", "failed", "cancelled"]
SUBJECT_STATES = ["queued", "delivered", "not_available"]
CALL_STATES = ["pending", "delivered", "failed"]
COHORT_STATES = ["waiting", "sent_back", "asking", "asked"]
MODEL_STATES = ["waiting", "refused", "approving", "approved", "suspended"]


class Typed(serializers.Serializer[Any]):
    """A value has the JSON type that the OpenAPI document says: nothing is read as what it is not, be it `5`
    as a text or `"no"` as true."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            known = {name: value for name, value in data.items() if name in self.fields}
            if wrong := [name for name, value in known.items() if not _has_type(self.fields[name], value)]:
                raise serializers.ValidationError({name: ["This is of another type."] for name in wrong})
        return super().to_internal_value(data)


class Strict(Typed):
    """Refuses members that it does not know: a misspelt restriction must not vanish silently."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := sorted(set(data) - set(self.fields))):
            raise serializers.ValidationError({name: ["There is no such member."] for name in unknown})
        return super().to_internal_value(data)


TEXTS = (serializers.CharField, serializers.ChoiceField, serializers.DateField, serializers.UUIDField)


def _has_type(field: Any, value: Any) -> bool:
    """Whether a JSON value is of the type that the field takes; null is the field's own to judge."""
    if value is None:
        return True
    if isinstance(field, serializers.ListField):
        return isinstance(value, list) and all(_has_type(field.child, each) for each in value)
    if isinstance(field, serializers.BooleanField):
        return isinstance(value, bool)
    if isinstance(field, serializers.IntegerField):
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, str) if isinstance(field, TEXTS) else True


class QuestionIn(Strict):
    """What a patient is asked."""

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


class ConsentRequestIn(QuestionIn):
    referral_code = serializers.CharField(max_length=64, help_text="from the patient; used once")
    kind = serializers.ChoiceField(
        ["analyse", "export"],
        default="analyse",
        help_text="to run a model on the records here, or to have a de-identified copy of them",
    )
    model = serializers.RegexField(
        DIGEST, required=False, help_text="SHA-256 of an approved model, hex; none for an export"
    )


class CohortIn(QuestionIn):
    model = serializers.RegexField(DIGEST, help_text="SHA-256 of an approved model, hex")
    wish = serializers.CharField(
        max_length=500, help_text="whom you want to ask, in plain words: the hospital writes the criteria"
    )


class ReviewReasonOut(serializers.Serializer[Any]):
    code = serializers.CharField()
    detail = serializers.CharField()


class ReviewOut(serializers.Serializer[Any]):
    state = serializers.ChoiceField(REVIEW_STATES)
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


class TestedIn(Strict):
    people = serializers.IntegerField(min_value=1, max_value=10**9, help_text="100 or more")
    wrong = serializers.IntegerField(min_value=0, max_value=10**9, help_text="for how many it was wrong")


class ModelIn(Strict):
    digest = serializers.RegexField(DIGEST, help_text="SHA-256 of what runs, hex")
    name = serializers.RegexField(r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,59}$")
    version = serializers.RegexField(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,19}$")
    card = serializers.DictField(
        help_text="the model card: what it is for, what it reads, its limits; texts, whole numbers and lists"
    )
    tested = TestedIn(help_text="your own test of this version")
    trained_on = serializers.ListField(
        child=serializers.RegexField(DIGEST),
        max_length=1000,
        required=False,
        allow_null=True,
        help_text="the jobs whose exports it learned from, or []; left out, it counts as any of those before",
    )


class TestedOut(serializers.Serializer[Any]):
    people = serializers.IntegerField()
    wrong = serializers.IntegerField()


class WithdrawnCopyOut(serializers.Serializer[Any]):
    job = serializers.RegexField(DIGEST)
    subject = serializers.RegexField(DIGEST)


class RetrainingOut(serializers.Serializer[Any]):
    id = serializers.RegexField(DIGEST)
    asked_at = serializers.DateTimeField()
    withdrawn = WithdrawnCopyOut(many=True, help_text="the copies that it has to do without")


class ModelOut(serializers.Serializer[Any]):
    digest = serializers.RegexField(DIGEST)
    name = serializers.CharField()
    version = serializers.CharField()
    state = serializers.ChoiceField(MODEL_STATES)
    reasons = ReviewReasonOut(many=True, help_text="why it was refused; register it again")
    trained_on = serializers.ListField(
        child=serializers.RegexField(DIGEST), allow_null=True, help_text="as you said; null: you said nothing"
    )
    retraining = RetrainingOut(
        many=True, help_text="patients withdrew what it may have learned from: the hospital asks what you do"
    )
    tested = TestedOut(allow_null=True, help_text="your own test; null where the hospital registered it")
    tested_here = TestedOut(allow_null=True, help_text="the hospital's own test, which patients read")
    registered_at = serializers.DateTimeField()


class ModelListOut(serializers.Serializer[Any]):
    models = ModelOut(many=True)


class DeletionOut(serializers.Serializer[Any]):
    job = serializers.RegexField(DIGEST)
    subject = serializers.RegexField(DIGEST)
    asked_at = serializers.DateTimeField()


class CohortBrief(serializers.Serializer[Any]):
    id = serializers.RegexField(DIGEST)
    state = serializers.ChoiceField(COHORT_STATES)
    reasons = ReviewReasonOut(many=True, help_text="why it was sent back; propose another")
    model = serializers.RegexField(DIGEST)
    purpose = serializers.CharField()
    created_at = serializers.DateTimeField()


class CohortOut(CohortBrief):
    asked = serializers.IntegerField(
        allow_null=True, help_text="at least so many were asked; null: few, or not told"
    )
    in_force = serializers.IntegerField(
        allow_null=True, help_text="at least so many said yes and have not stopped; null: few, or not told"
    )
    counted_at = serializers.DateTimeField(
        allow_null=True, help_text="when `in_force` was counted: once a day at most"
    )
    deletions_asked = DeletionOut(
        many=True, help_text="results that their patients ask you to delete, until the hospital heard you did"
    )


class CohortListOut(serializers.Serializer[Any]):
    cohorts = CohortBrief(many=True)


class JobIn(Strict):
    cohort = serializers.RegexField(
        DIGEST, required=False, help_text="a cohort of yours; its question says model, purpose and use"
    )
    kinds = serializers.ListField(
        child=serializers.RegexField(r"^[A-Z][A-Za-z]{2,40}$"),
        max_length=20,
        required=False,
        help_text="of a cohort, those alone whose consent gives all of these resource types",
    )
    given_since = serializers.DateField(
        required=False, help_text="of a cohort, those alone whose consent came into force then or later"
    )
    model = serializers.RegexField(DIGEST, required=False)
    purpose = serializers.CharField(max_length=20, required=False)
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

    def validate(self, attrs: Any) -> Any:
        """A cohort says what its question said; else model and purpose are named."""
        of_cohort, of_others = {"kinds", "given_since"}, {"model", "purpose", "requests"}
        if "cohort" in attrs:
            unfit = of_others & attrs.keys() | ({"use"} if attrs["use"] else set())
            needed = set()
        else:
            unfit, needed = of_cohort & attrs.keys(), {"model", "purpose"} - attrs.keys()
        wrong = {
            name: ["Not beside `cohort`." if "cohort" in attrs else "Of a cohort only."] for name in unfit
        }
        if wrong or needed:
            raise serializers.ValidationError({**wrong, **{name: ["Name it."] for name in needed}})
        return attrs


class JobBrief(serializers.Serializer[Any]):
    id = serializers.RegexField(DIGEST)
    kind = serializers.ChoiceField(["analyse", "export", "summary"])
    cohort = serializers.RegexField(DIGEST, allow_null=True)
    state = serializers.ChoiceField(JOB_STATES)
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
    request = serializers.CharField(
        allow_null=True, help_text="the consent request as you named it; null in a cohort"
    )
    state = serializers.ChoiceField(SUBJECT_STATES)
    digest = serializers.RegexField(DIGEST, allow_null=True, help_text="SHA-256 of the sealed result")
    review = serializers.ChoiceField(
        ["preliminary", "final", "cancelled", "entered-in-error"],
        allow_null=True,
        help_text="what the clinic says of the result, as a FHIR RiskAssessment.status",
    )


class DoorsOut(serializers.Serializer[Any]):
    release_tx = serializers.CharField()
    deliver_tx = serializers.CharField()


class JobOut(JobBrief):
    subjects = SubjectOut(many=True, help_text="of a cohort, those that were delivered, once it has ended")
    summaries = serializers.ListField(
        child=serializers.RegexField(DIGEST),
        help_text="of a model that summarises: the digest of each sealed result, by which it is read",
    )
    next = serializers.CharField(allow_null=True, help_text="`after` of the next page of subjects")
    doors = DoorsOut(many=True, help_text="the ledger transactions of each part that delivered")
    release_tx = serializers.CharField(
        allow_null=True, help_text="the ledger transaction that let the job in"
    )
    deliver_tx = serializers.CharField(
        allow_null=True, help_text="the ledger transaction that let its results out"
    )


class JobListOut(serializers.Serializer[Any]):
    jobs = JobBrief(many=True)
    next = serializers.CharField(allow_null=True, help_text="`before` of the next page")


class ProofOut(serializers.Serializer[Any]):
    format = serializers.CharField(help_text="what the verifier reads; its bytes are as they are signed")
    rows = serializers.ListField(help_text="the log's row of what you were sent, with its path to the root")
    checkpoint = serializers.DictField(help_text="that root, and the ledger's evidence for it")


class WaitingOut(serializers.Serializer[Any]):
    state = serializers.ChoiceField(["waiting"])


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


class SystemValue(Typed):
    system = serializers.CharField(max_length=300)
    value = serializers.CharField(max_length=300)


class SystemCode(Typed):
    system = serializers.CharField(max_length=300, required=False)
    code = serializers.RegexField(r"^[A-Z][A-Za-z]{2,40}$", help_text="a FHIR resource type")


CDSContextIn = type(
    "CDSContextIn",
    (Typed,),
    {
        "patientId": serializers.ListField(
            child=SystemValue(),
            min_length=1,
            max_length=20,
            help_text="the consent request, by its system and id",
        ),
        "purposeOfUse": serializers.CharField(max_length=20, help_text="v3-ActReason code"),
        # A Python word, and FHIR's.
        "class": serializers.ListField(
            child=SystemCode(), min_length=1, max_length=200, help_text="FHIR resource types"
        ),
    },
)()


class CDSExtensionIn(Typed):
    model = serializers.RegexField(
        DIGEST, required=False, help_text="digest; without it, a copy is asked about"
    )
    use = serializers.ListField(
        child=serializers.RegexField(r"^[A-Z]{2,5}$"), max_length=20, default=list, help_text="DUO codes"
    )


class CDSRequestIn(Typed):
    """CDS Hooks 2.0: members that we do not know are passed over, as that standard asks."""

    hook = serializers.ChoiceField(["patient-consent-consult"])
    hookInstance = serializers.CharField(max_length=64)  # noqa: N815 (theirs)
    context = CDSContextIn
    extension = CDSExtensionIn(required=False)


class CDSServiceOut(serializers.Serializer[Any]):
    hook = serializers.CharField()
    id = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField()
    usageRequirements = serializers.CharField()  # noqa: N815 (theirs)


class CDSServicesOut(serializers.Serializer[Any]):
    services = CDSServiceOut(many=True)


class CDSCardsOut(serializers.Serializer[Any]):
    cards = serializers.ListField(
        child=serializers.DictField(),
        help_text="one; `extension.decision` is CONSENT_PERMIT, CONSENT_DENY or NO_CONSENT",
    )


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
    state = serializers.ChoiceField(CALL_STATES)
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
