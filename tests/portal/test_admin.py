"""The admin site: a look at the ledger and the log, services for what changes."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.core.management.sql import emit_post_migrate_signal
from django.test import Client, RequestFactory
from django.urls import reverse
from oauth2_provider.models import AccessToken

from consent import referrals, services
from consent.models import Consent, ConsentRequest, Notice, Patient, ReferralCode, Requester
from gateway.accounts.models import AIClient
from gateway.accounts.roles import ROLES, make_groups
from gateway.analysis.models import AIModel, Job
from ledger.audit.models import AuditBatch, AuditRow
from ledger.models import EventCursor, LedgerTransaction
from tests.questions import grant
from tests.signing import ask_for_token, assertion, claims, key_set, new_key

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


@pytest.fixture
def member(user: Any) -> Callable[[str], Client]:
    """A member of staff with one role, signed in."""

    def sign_in(role: str) -> Client:
        make_groups()
        person = user(role, is_staff=True)
        person.groups.set(Group.objects.filter(name=role))
        client = Client()
        client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return sign_in


def assert_shown_once(site: Client, answer: Any, secret: str) -> None:
    """The secret stands in this page and in no cookie, no session, no URL and no other page."""
    assert answer.status_code == 200
    assert "default-src 'self'" in answer["Content-Security-Policy"]
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=", answer.content.decode())
    assert "no-store" in answer["Cache-Control"]
    assert secret not in str(answer.cookies) + str(site.cookies) + str(dict(site.session.items()))
    assert secret not in site.get(reverse("admin:index")).content.decode()
    assert secret not in " ".join(LogEntry.objects.values_list("change_message", flat=True))


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
    answer = site.post(reverse("admin:consent_patient_add"), {"name": "Ada"})
    patient = Patient.objects.get()
    code = re.search(r"/invitation/([\w-]+)", answer.content.decode())
    assert code is not None
    assert_shown_once(site, answer, code[1])
    assert services.find_invitation(code[1]) == patient
    assert code[1] not in site.get(reverse("admin:consent_patient_changelist")).content.decode()
    again = site.post(
        reverse("admin:consent_patient_changelist"),
        {"action": "send_new_invitation", "_selected_action": [patient.pk]},
    )
    newer = re.search(r"/invitation/([\w-]+)", again.content.decode())
    assert newer is not None
    assert newer[1] != code[1]
    assert_shown_once(site, again, newer[1])


def test_who_has_an_account_is_not_invited_again(site: Client, alice: Any) -> None:
    page = site.post(
        reverse("admin:consent_patient_changelist"),
        {"action": "send_new_invitation", "_selected_action": [alice.pk]},
    ).content.decode()
    assert "has signed up already" in page
    assert "/invitation/" not in page


def test_a_clinician_gives_a_referral_code(member: Any, alice: Any, helix: Requester) -> None:
    clinician, url = member("clinician"), reverse("admin:consent_patient_referral", args=[alice.pk])
    assert url in clinician.get(reverse("admin:consent_patient_change", args=[alice.pk])).content.decode()
    assert helix.name in clinician.get(url).content.decode()
    answer = clinician.post(url, {"requester": str(helix.pk)})
    code = re.search(r"<code>(\w{26})</code>", answer.content.decode())
    assert code is not None
    assert_shown_once(clinician, answer, code[1])
    row = AuditRow.objects.get(kind="referral.issued")
    line = json.loads(bytes(row.line))
    assert (row.subject, line["details"]) == (alice.pseudonym, {"requester": str(helix.pk)})
    assert line["actor"]["kind"] == "staff"
    assert referrals.redeem(code=code[1], requester=helix) == alice


def test_a_referral_code_needs_the_right_the_patient_and_the_provider(
    member: Any, alice: Any, helix: Requester
) -> None:
    url = reverse("admin:consent_patient_referral", args=[alice.pk])
    for role in ("compliance", "requesters"):
        assert member(role).post(url, {"requester": str(helix.pk)}).status_code == 403
    clinician = member("clinician")
    assert clinician.get(reverse("admin:consent_patient_referral", args=["0" * 64])).status_code == 404
    assert "This field is required" in clinician.post(url, {}).content.decode()
    alice.record_id = None
    alice.save()
    assert "Link this patient" in clinician.post(url, {"requester": str(helix.pk)}).content.decode()
    assert not ReferralCode.objects.exists()
    assert not AuditRow.objects.filter(kind="referral.issued").exists()


def has_token(client: AIClient, key: Any) -> bool:
    return bool(ask_for_token(assertion(key, claims(client.application.client_id))).status_code == 200)


def test_the_role_requesters_makes_an_ai_client(member: Any, helix: Requester) -> None:
    staff, url = member("requesters"), reverse("admin:accounts_aiclient_add")
    assert helix.name in staff.get(url).content.decode()
    key, newer = new_key("one"), new_key("two")
    staff.post(url, {"requester": str(helix.pk), "jwks": json.dumps(key_set(key)), "jwks_url": ""})
    client = AIClient.objects.get()
    assert has_token(client, key)
    change = reverse("admin:accounts_aiclient_change", args=[client.pk])
    assert client.application.client_id in staff.get(change).content.decode()
    staff.post(change, {"jwks": json.dumps(key_set(newer)), "jwks_url": ""})
    assert not AccessToken.objects.exists()
    assert has_token(client, newer)
    assert not has_token(client, key)
    kinds = AuditRow.objects.order_by("pk").values_list("kind", flat=True)
    assert [kind for kind in kinds if kind.startswith("client.")] == [
        "client.registered",
        "client.keys_changed",
    ]


@pytest.mark.parametrize("given", ["neither", "both", "private", "inside"])
def test_keys_that_cannot_be_registered_are_said_so(member: Any, helix: Requester, given: str) -> None:
    key = new_key()
    public, private = json.dumps(key_set(key)), json.dumps({"keys": [key.as_dict(private=True)]})
    body, said = {
        "neither": ({}, "Give a key set"),
        "both": ({"jwks": public, "jwks_url": "https://helix.example/jwks.json"}, "Give a key set"),
        "private": ({"jwks": private}, "This key is private"),
        "inside": ({"jwks_url": "http://169.254.169.254/latest"}, "begins with https"),
    }[given]
    url = reverse("admin:accounts_aiclient_add")
    answer = member("requesters").post(url, {"requester": str(helix.pk), **body})
    assert said in answer.content.decode()
    assert not AIClient.objects.exists()


@pytest.mark.parametrize("role", ["clinician", "compliance"])
def test_no_other_role_makes_one(member: Any, helix: Requester, role: str) -> None:
    answer = member(role).post(reverse("admin:accounts_aiclient_add"), {"requester": str(helix.pk)})
    assert answer.status_code == 403
    assert not AIClient.objects.exists()


def test_names_are_spelt_as_people_spell_them(site: Client) -> None:
    page = site.get(reverse("admin:index")).content.decode()
    assert "AI clients" in page
    assert "AI models" in page


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


def test_a_model_is_suspended_here_and_added_by_nobody(site: Client, pce: AIModel) -> None:
    assert site.get(reverse("admin:analysis_aimodel_add")).status_code == 403
    site.post(
        reverse("admin:analysis_aimodel_changelist"), {"action": "suspend", "_selected_action": [pce.pk]}
    )
    pce.refresh_from_db()
    assert pce.state == AIModel.State.SUSPENDED
    assert LedgerTransaction.objects.get().args["state"] == "suspended"


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


def test_migrating_makes_the_groups_once_and_whole(
    db: None, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    Group.objects.all().delete()
    with django_assert_max_num_queries(150):
        emit_post_migrate_signal(verbosity=0, interactive=False, db="default")
    for role, models in ROLES.items():
        assert Group.objects.get(name=role).permissions.count() == sum(map(len, models.values()))


def test_a_stranger_has_no_admin_site(stranger: Client) -> None:
    assert stranger.get("/admin/").status_code in (302, 403)
    assert not Requester.objects.exists()
