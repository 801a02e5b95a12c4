"""Where the API is, and where its tokens come from."""

from django.urls import include, path
from drf_spectacular.views import SpectacularJSONAPIView
from oauth2_provider.views import RevokeTokenView, TokenView

from gateway.api import consent_requests, jobs

version_1 = [
    path("openapi.json", SpectacularJSONAPIView.as_view(permission_classes=[], authentication_classes=[])),
    path("consent-requests", consent_requests.ConsentRequests.as_view()),
    path("consent-requests/<str:id>", consent_requests.ConsentRequestDetail.as_view()),
    path("jobs", jobs.Jobs.as_view()),
    path("jobs/<str:id>", jobs.JobDetail.as_view()),
    path("jobs/<str:id>/cancel", jobs.JobCancel.as_view()),
    path("jobs/<str:id>/results/<str:subject>", jobs.SubjectResult.as_view()),
]

urlpatterns = [
    path("api/v1/", include(version_1)),
    path("oauth/token/", TokenView.as_view(), name="token"),
    path("oauth/revoke/", RevokeTokenView.as_view(), name="revoke-token"),
]
