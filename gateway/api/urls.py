"""Where the API is, and where its tokens come from."""

from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularJSONAPIView
from oauth2_provider.views import RevokeTokenView, TokenView

import gateway.addresses  # noqa: F401 (`hex64`)
from gateway.api import (
    cds_hooks,
    cohorts,
    consent_requests,
    decisions,
    developers,
    discovery,
    introspection,
    jobs,
    model_versions,
    nothing_here,
    webhooks,
)
from gateway.api.fhir import audit, bulk, consents, resources
from gateway.api.tokens import limited

version_1 = [
    path("openapi.json", SpectacularJSONAPIView.as_view(permission_classes=[], authentication_classes=[])),
    path("consent-requests", consent_requests.ConsentRequests.as_view()),
    path("consent-requests/<hex64:id>", consent_requests.ConsentRequestDetail.as_view()),
    path("models", model_versions.ModelVersions.as_view()),
    path("models/<hex64:digest>", model_versions.ModelVersion.as_view()),
    path("cohorts", cohorts.Cohorts.as_view()),
    path("cohorts/<hex64:id>", cohorts.CohortDetail.as_view()),
    path("webhooks", webhooks.Webhooks.as_view()),
    path("webhooks/<uuid:id>", webhooks.WebhookDetail.as_view()),
    path("webhooks/<uuid:id>/calls", webhooks.WebhookCalls.as_view()),
    path("webhooks/<uuid:id>/calls/<str:call>/resend", webhooks.WebhookResend.as_view()),
    path("decisions", decisions.Decisions.as_view()),
    path("jobs", jobs.Jobs.as_view()),
    path("jobs/<hex64:id>", jobs.JobDetail.as_view()),
    path("jobs/<hex64:id>/cancel", jobs.JobCancel.as_view()),
    path("jobs/<hex64:id>/events", jobs.JobEvents.as_view()),
    path("jobs/<hex64:id>/summaries/<hex64:digest>", jobs.JobSummary.as_view()),
    path("jobs/<hex64:id>/results/<hex64:subject>", jobs.SubjectResult.as_view()),
    path("jobs/<hex64:id>/results/<hex64:subject>/proof", jobs.ResultProof.as_view()),
]

fhir = [
    path("$export", bulk.Export.as_view()),
    path("Group", bulk.Groups.as_view()),
    path("Group/<str:group>", bulk.Groups.as_view()),
    path("Group/<str:group>/$export", bulk.Export.as_view()),
    path("Consent", consents.Consents.as_view()),
    path("Consent/<hex64:id>", consents.ConsentDetail.as_view()),
    path("AuditEvent", audit.AuditEvents.as_view()),
    path("bulk-status/<hex64:id>", bulk.Status.as_view()),
    path("bulk-files/<hex64:id>/<str:kind>.ndjson", bulk.File.as_view()),
    path("<str:kind>", resources.Search.as_view()),
    path("<str:kind>/<str:id>", resources.Read.as_view()),
    re_path("", nothing_here.NoFHIR.as_view()),
]

urlpatterns = [
    path("api/v1/", include(version_1)),
    re_path(r"^api/", nothing_here.NothingHere.as_view()),
    # With and without the slash: existing clients send either.
    re_path(r"^oauth/token/?$", limited(TokenView.as_view()), name="token"),
    re_path(r"^oauth/revoke/?$", limited(RevokeTokenView.as_view()), name="revoke-token"),
    re_path(r"^oauth/introspect/?$", limited(introspection.introspect), name="introspect-token"),
    path(".well-known/smart-configuration", discovery.smart_configuration),
    path("fhir/.well-known/smart-configuration", discovery.smart_configuration),
    path("fhir/metadata", discovery.metadata),
    path("developers/", developers.index, name="developers"),
    path("developers/operations/<slug:id>", developers.operation, name="developers_operation"),
    path("developers/sandbox", developers.sandbox, name="developers_sandbox"),
    path("developers/errors/", developers.errors, name="developers_errors"),
    path("developers/errors/<slug:code>", developers.error, name="developers_error"),
    path("fhir/", include(fhir)),
    path("cds-services", cds_hooks.Services.as_view()),
    path("cds-services/patient-consent-consult", cds_hooks.PatientConsentConsult.as_view()),
]
