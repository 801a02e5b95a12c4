"""The admin site: a look at the ledger and the log, services for what changes."""

import re
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.test import Client, RequestFactory
from django.urls import reverse

from consent import services
from consent.models import Consent, ConsentRequest, Notice, Patient, Requester
from gateway.accounts.roles import ROLES, make_groups
from gateway.analysis import catalogue
from gateway.analysis.models import AIModel, Job
from ledger.audit.models import AuditBatch, AuditRow
from ledger.models import EventCursor, LedgerTransaction
from tests.questions import grant

pytestmark = pytest.mark.django_db

READ_ONLY = [LedgerTransaction, EventCursor, AuditRow, AuditBatch, ConsentRequest, Consent, Job]


@pytest.fixture
def root(user: Any) -> Any:
    return user("root", is_staff=True, is_superuser=True)


@pytest.fixture
def site(root: Any) -> Client:
    client = Client()
    client.force_login(root, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.mark.parametrize("model", READ_ONLY)
def test_nobody_writes_what_only_services_write(root: Any, model: Any) -> None:
    request = RequestFactory().get("/")
    request.user = root
    page = admin.site._registry[model]
    assert page.has_view_permission(request)
    assert not page.has_add_permission(request)
    assert not page.has_change_permission(request)
    assert not page.has_delete_permission(request)


@pytest.mark.parametrize("model", list(admin.site._registry))
def test_every_list_opens_under_the_strict_policy(site: Client, model: Any) -> None:
    page = site.get(reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"))
    assert page.status_code == 200
    assert "default-src 'self'" in page["Content-Security-Policy"]


def test_rows_can_be_looked_at(site: Client, question: ConsentRequest) -> None:
    consent = grant(question)
    for row in (LedgerTransaction.objects.get(), AuditRow.objects.latest("id"), consent, question):
        url = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
        assert site.get(url).status_code == 200


def test_inviting_shows_the_link_once(site: Client) -> None:
    page = site.post(reverse("admin:consent_patient_add"), {"name": "Ada"}, follow=True).content.decode()
    patient = Patient.objects.get()
    code = re.search(r"/invitation/([\w-]+)", page)
    assert code is not None
    assert services.find_invitation(code[1]) == patient
    assert code[1] not in site.get(reverse("admin:consent_patient_changelist")).content.decode()
    again = site.post(
        reverse("admin:consent_patient_changelist"),
        {"action": "send_new_invitation", "_selected_action": [patient.pk]},
        follow=True,
    )
    newer = re.search(r"/invitation/([\w-]+)", again.content.decode())
    assert newer is not None
    assert newer[1] != code[1]


def test_identifying_and_linking_go_through_the_services(site: Client, alice: Any, root: Any) -> None:
    patient = Patient.objects.create(name="New")
    url = reverse("admin:consent_patient_change", args=[patient.pk])
    site.post(url, {"name": "New", "record_id": "new-1", "identified": "in_person"})
    patient.refresh_from_db()
    assert (patient.record_id, patient.proofed_by) == ("new-1", root)
    page = site.post(url, {"name": "New", "record_id": "new-2"}, follow=True)
    assert "linked to another record already" in page.content.decode()
    patient.refresh_from_db()
    assert patient.record_id == "new-1"


def test_a_model_is_registered_and_suspended_by_the_services(site: Client, helix: Any) -> None:
    name = catalogue.MODELS[0].name
    site.post(reverse("admin:analysis_aimodel_add"), {"model": name, "provider": str(helix.pk)})
    model = AIModel.objects.get()
    assert model.digest == catalogue.find(name).digest()
    assert LedgerTransaction.objects.get().name == "RegisterModel"
    AIModel.objects.update(state=AIModel.State.APPROVED)
    site.post(
        reverse("admin:analysis_aimodel_changelist"), {"action": "suspend", "_selected_action": [model.pk]}
    )
    model.refresh_from_db()
    assert model.state == AIModel.State.SUSPENDED


def test_a_notice_is_published_and_never_changed(site: Client) -> None:
    notice = {"slug": "a", "language": "en", "title": "A", "text": "B."}
    site.post(reverse("admin:consent_notice_add"), notice)
    site.post(reverse("admin:consent_notice_add"), {**notice, "text": "C."})
    assert list(Notice.objects.order_by("version").values_list("version", "text")) == [(1, "B."), (2, "C.")]


def test_roles_hold_what_they_say_and_never_write_the_log(db: None) -> None:
    make_groups()
    make_groups()
    for role, models in ROLES.items():
        group = Group.objects.get(name=role)
        assert group.permissions.count() == sum(len(acts) for acts in models.values())
    written = {
        permission.content_type.model
        for group in Group.objects.all()
        for permission in group.permissions.exclude(codename__startswith="view_")
    }
    assert not written & {model._meta.model_name for model in READ_ONLY}


def test_a_stranger_has_no_admin_site(stranger: Client) -> None:
    assert stranger.get("/admin/").status_code in (302, 403)
    assert not Requester.objects.exists()
