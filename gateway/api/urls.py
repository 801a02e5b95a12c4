"""Where the API is, and where its tokens come from."""

from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularJSONAPIView
from oauth2_provider.views import RevokeTokenView, TokenView

import gateway.addresses  # noqa: F401 (`hex64`)
from gateway.api import consent_requests, discovery, introspection, jobs, nothing_here

version_1 = [
    path("openapi.json", SpectacularJSONAPIView.as_view(permission_classes=[], authentication_classes=[])),
    path("consent-requests", consent_requests.ConsentRequests.as_view()),
    path("consent-requests/<hex64:id>", consent_requests.ConsentRequestDetail.as_view()),
    path("jobs", jobs.Jobs.as_view()),
    path("jobs/<hex64:id>", jobs.JobDetail.as_view()),
    path("jobs/<hex64:id>/cancel", jobs.JobCancel.as_view()),
    path("jobs/<hex64:id>/events", jobs.JobEvents.as_view()),
    path("jobs/<hex64:id>/results/<hex64:subject>", jobs.SubjectResult.as_view()),
]

urlpatterns = [
    path("api/v1/", include(version_1)),
    re_path(r"^api/", nothing_here.NothingHere.as_view()),
    # With and without the slash: existing clients send either.
    re_path(r"^oauth/token/?$", TokenView.as_view(), name="token"),
    re_path(r"^oauth/revoke/?$", RevokeTokenView.as_view(), name="revoke-token"),
    re_path(r"^oauth/introspect/?$", introspection.introspect, name="introspect-token"),
    path(".well-known/smart-configuration", discovery.smart_configuration),
    path("fhir/.well-known/smart-configuration", discovery.smart_configuration),
    path("fhir/metadata", discovery.metadata),
]
