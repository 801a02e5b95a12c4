"""Who gets a token (SMART Backend Services), what for, and every way in which one must not be had."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from joserfc.jwk import ECKey, OctKey

from consent.models import Requester
from gateway.accounts import clients, key_sets
from gateway.accounts.models import UsedAssertion
from ledger.audit.log import Actor
from tests.api.conftest import HELIX_KEY
from tests.signing import TOKEN_ADDRESS, TYPE, ask_for_token, assertion, claims, key_set, new_key

pytestmark = pytest.mark.django_db


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(header: dict[str, Any], said: dict[str, Any], signature: bytes = b"") -> str:
    parts = [b64(json.dumps(part).encode()) for part in (header, said)]
    return ".".join([*parts, b64(signature)])


def refused(answer: Any, *, because: str) -> None:
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert because in answer.json()["error_description"]
    assert "access_token" not in answer.json()


def test_a_token_lives_five_minutes_and_opens_the_api(client: Client, application: Any) -> None:
    answer = ask_for_token(assertion(HELIX_KEY, claims(application.client_id)))
    assert answer.status_code == 200
    assert (answer.json()["expires_in"], answer.json()["token_type"]) == (300, "Bearer")
    assert "no-store" in answer["Cache-Control"]
    assert "refresh_token" not in answer.json()
    jobs = client.get("/api/v1/jobs", headers={"Authorization": f"Bearer {answer.json()['access_token']}"})
    assert jobs.json() == {"jobs": [], "next": None}


def test_rsa_and_elliptic_keys_sign(helix: Requester) -> None:
    rsa, elliptic = new_key("rsa", "RSA"), new_key("ec")
    made = clients.register(requester=helix, by=Actor.staff(1), jwks=key_set(rsa, elliptic))
    for key in (rsa, elliptic):
        answer = ask_for_token(assertion(key, claims(made.application.client_id)))
        assert answer.status_code == 200, answer.content


def test_both_spellings_of_the_address_answer(application: Any) -> None:
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": TYPE,
        "client_assertion": assertion(HELIX_KEY, claims(application.client_id)),
    }
    assert Client().post("/oauth/token/", form).status_code == 200


# What must not be had


def test_none_is_no_algorithm(application: Any) -> None:
    said = claims(application.client_id)
    for algorithm in ("none", "None", "NONE", ""):
        forged = unsigned({"alg": algorithm, "kid": "helix", "typ": "JWT"}, said)
        refused(ask_for_token(forged), because="RS384 or ES384")


def test_the_public_key_is_no_shared_secret(application: Any) -> None:
    """Algorithm confusion: an HMAC whose key is what everybody knows of the client."""
    public = HELIX_KEY.as_pem(private=False)
    for algorithm in ("HS256", "HS384", "HS512"):
        head = {"alg": algorithm, "kid": "helix", "typ": "JWT"}
        forged = unsigned(head, claims(application.client_id))
        signed = forged.rpartition(".")[0].encode()
        mac = hmac.new(public, signed, getattr(hashlib, algorithm.replace("HS", "sha"))).digest()
        refused(ask_for_token(f"{signed.decode()}.{b64(mac)}"), because="RS384 or ES384")


def test_the_key_decides_the_algorithm_not_the_header(helix: Requester) -> None:
    rsa = new_key("one", "RSA")
    made = clients.register(requester=helix, by=Actor.staff(1), jwks=key_set(rsa))
    elliptic = new_key("one")  # the same name, another kind
    refused(
        ask_for_token(assertion(elliptic, claims(made.application.client_id))),
        because="another kind than alg says",
    )


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS384"])
def test_other_signatures_of_the_right_key_are_not_taken(helix: Requester, algorithm: str) -> None:
    rsa = new_key("one", "RSA")
    made = clients.register(requester=helix, by=Actor.staff(1), jwks=key_set(rsa))
    signed = assertion(rsa, claims(made.application.client_id), alg=algorithm)
    refused(ask_for_token(signed), because="RS384 or ES384")


def test_another_key_under_the_name_of_ours_does_not_hold(application: Any) -> None:
    signed = assertion(new_key("helix"), claims(application.client_id))
    refused(ask_for_token(signed), because="does not hold")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jwk", new_key("helix").as_dict(private=False)),
        ("x5u", "https://evil.example/cert.pem"),
        ("x5c", ["MIIB"]),
        ("x5t", "AAAA"),
        ("x5t#S256", "AAAA"),
        ("crit", ["exp"]),
        ("b64", False),
        ("zip", "DEF"),
    ],
)
def test_no_key_and_no_rule_comes_with_the_assertion(application: Any, name: str, value: Any) -> None:
    head = {"alg": "ES384", "kid": "helix", "typ": "JWT", name: value}
    refused(ask_for_token(unsigned(head, claims(application.client_id), b"x")), because=name)


def test_jku_is_taken_only_as_registered(application: Any) -> None:
    for jku in ("https://evil.example/jwks.json", "", None, 7):
        head = {"alg": "ES384", "kid": "helix", "typ": "JWT", "jku": jku}
        refused(ask_for_token(unsigned(head, claims(application.client_id), b"x")), because="jku")


@pytest.mark.parametrize(
    ("changed", "because"),
    [
        ({"aud": [TOKEN_ADDRESS]}, "not in a list"),
        ({"aud": "https://other.example/oauth/token"}, "aud is"),
        ({"aud": TOKEN_ADDRESS + "/"}, "aud is"),
        ({"aud": None}, "aud is"),
        ({"exp": None}, "run out"),
        ({"exp": int(time.time()) - 60}, "run out"),
        ({"exp": int(time.time()) + 36000}, "5 minutes"),
        ({"exp": True}, "run out"),
        ({"exp": "2099-01-01"}, "run out"),
        ({"nbf": int(time.time()) + 36000}, "nbf lies ahead"),
        ({"iat": int(time.time()) + 36000}, "iat lies ahead"),
        ({"jti": None}, "jti"),
        ({"jti": ""}, "jti"),
        ({"jti": 7}, "jti"),
        ({"jti": "x" * 256}, "jti"),
        ({"sub": "another"}, "iss and sub"),
        ({"iss": None}, "iss and sub"),
    ],
)
def test_a_claim_that_does_not_hold(application: Any, changed: dict[str, Any], because: str) -> None:
    refused(ask_for_token(assertion(HELIX_KEY, claims(application.client_id, **changed))), because=because)


def test_a_few_seconds_of_skew_are_nothing(application: Any) -> None:
    for exp in (int(time.time()) + 301, int(time.time()) - 3):
        signed = assertion(HELIX_KEY, claims(application.client_id, exp=exp, iat=int(time.time()) + 3))
        assert ask_for_token(signed).status_code == 200


def test_an_assertion_is_good_once(application: Any) -> None:
    signed = assertion(HELIX_KEY, claims(application.client_id))
    assert ask_for_token(signed).status_code == 200
    refused(ask_for_token(signed), because="used before")
    other = assertion(HELIX_KEY, claims(application.client_id, jti="once"))
    same_name = assertion(HELIX_KEY, claims(application.client_id, jti="once", exp=int(time.time()) + 60))
    assert ask_for_token(other).status_code == 200
    refused(ask_for_token(same_name), because="used before")


def test_an_assertion_is_good_once_at_every_address(client: Client, application: Any) -> None:
    signed = assertion(HELIX_KEY, claims(application.client_id))
    form = {"client_assertion_type": TYPE, "client_assertion": signed, "token": "x"}
    assert client.post("/oauth/introspect", form).json() == {"active": False}
    refused(ask_for_token(signed), because="used before")


def test_the_use_and_the_token_are_one_commit(application: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from oauth2_provider.oauth2_validators import OAuth2Validator

    def fails(*args: Any, **kwargs: Any) -> None:
        raise OSError("the disk is full")

    signed = assertion(HELIX_KEY, claims(application.client_id))
    with monkeypatch.context() as patch:
        patch.setattr(OAuth2Validator, "_save_bearer_token", fails)
        with pytest.raises(OSError, match="the disk is full"):
            ask_for_token(signed)
    assert not UsedAssertion.objects.exists()
    assert ask_for_token(signed).status_code == 200


def test_what_has_run_out_is_forgotten(application: Any) -> None:
    ask_for_token(assertion(HELIX_KEY, claims(application.client_id)))
    UsedAssertion.objects.update(expires_at="2020-01-01T00:00:00Z")
    ask_for_token(assertion(HELIX_KEY, claims(application.client_id)))
    assert UsedAssertion.objects.count() == 1


@pytest.mark.parametrize(
    "text",
    ["", "a.b", "a.b.c.d", "....", "é.a.b", "x" * 9000, "e30.e30.e30", "bnVsbA.bnVsbA.x", "eyJ9.e30."],
)
def test_what_is_no_jwt_is_said_so(application: Any, text: str) -> None:
    answer = ask_for_token(text)
    assert answer.status_code in (400, 401), answer.content
    assert "access_token" not in answer.json()


def test_a_name_twice_in_the_claims_is_refused(application: Any) -> None:
    head = b64(json.dumps({"alg": "ES384", "kid": "helix"}).encode())
    body = b64(b'{"iss": "a", "iss": "b"}')
    refused(ask_for_token(f"{head}.{body}.AAAA"), because="not a signed JWT")


def test_an_unknown_client_and_an_unknown_key_look_alike(application: Any) -> None:
    stranger = ask_for_token(assertion(HELIX_KEY, claims("stranger"))).json()
    key = ask_for_token(assertion(new_key("other"), claims(application.client_id))).json()
    assert stranger == key


def test_there_are_no_shared_secrets(client: Client, application: Any) -> None:
    basic = base64.b64encode(f"{application.client_id}:".encode()).decode()
    for form, headers in (
        ({"client_id": application.client_id, "client_secret": ""}, {}),
        ({}, {"Authorization": f"Basic {basic}"}),
        ({"client_id": application.client_id}, {}),
    ):
        answer = client.post("/oauth/token", {"grant_type": "client_credentials", **form}, headers=headers)
        refused(answer, because="no secrets here")


@pytest.mark.parametrize("kind", ["password", "authorization_code", "refresh_token", "implicit", ""])
def test_no_other_way_to_a_token(application: Any, kind: str) -> None:
    signed = assertion(HELIX_KEY, claims(application.client_id))
    answer = ask_for_token(signed, grant_type=kind, username="a", password="b", code="c", refresh_token="d")
    assert answer.status_code in (400, 401)
    assert "access_token" not in answer.json()


# Keys


@pytest.mark.parametrize(
    "bad",
    [
        {"keys": []},
        {"keys": "x"},
        [],
        {"keys": [{"kty": "EC"}]},
        {"keys": [HELIX_KEY.as_dict(private=True)]},
        {"keys": [OctKey.generate_key(256, {"kid": "one"}).as_dict(private=True)]},
        {"keys": [ECKey.generate_key("P-256", {"kid": "one"}).as_dict(private=False)]},
        {"keys": [HELIX_KEY.as_dict(private=False)] * 2},
        {"keys": [{**HELIX_KEY.as_dict(private=False), "use": "enc"}]},
        {"keys": [{**HELIX_KEY.as_dict(private=False), "alg": "ES256"}]},
        {"keys": [{**HELIX_KEY.as_dict(private=False), "x": "AAAA"}]},
    ],
)
def test_what_is_no_key_set_of_ours_is_not_registered(helix: Requester, bad: Any) -> None:
    from ledger.errors import InvalidInput

    with pytest.raises(InvalidInput) as caught:
        clients.register(requester=helix, by=Actor.staff(1), jwks=bad)
    assert caught.value.code == "key_set"


@pytest.mark.filterwarnings("ignore:Key size")
def test_a_short_rsa_key_is_no_key() -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa

    numbers = rsa.generate_private_key(65537, 1024).public_key().public_numbers()
    short = {"kty": "RSA", "kid": "short", "e": "AQAB", "n": b64(numbers.n.to_bytes(128, "big"))}
    assert key_sets.usable({"keys": [short]}) == {}


def test_changed_keys_end_the_tokens_of_the_old_ones(client: Client, call: Callable[..., Any]) -> None:
    from gateway.accounts.models import AIClient

    assert call("GET", "jobs").status_code == 200
    clients.change_keys(client=AIClient.objects.get(), by=Actor.staff(1), jwks=key_set(new_key("new")))
    assert call("GET", "jobs").status_code == 401


# Scopes, introspection, revocation


def test_no_token_no_answer(client: Client) -> None:
    for path in ("/api/v1/jobs", "/api/v1/jobs/x", "/api/v1/consent-requests/x"):
        answer = client.get(path)
        assert answer.status_code == 401
        assert answer["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == "unauthenticated"
        assert "Bearer" in answer["WWW-Authenticate"]


def test_a_scope_that_was_not_asked_for_is_not_there(
    client: Client, application: Any, token_for: Callable[..., str]
) -> None:
    token = token_for(application, scope="consents system/Observation.rs?code=http://loinc.org|2093-3")
    answer = client.get("/api/v1/jobs", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 403
    assert answer.json()["code"] == "forbidden"


@pytest.mark.parametrize(
    "scope", ["jobs nonsense", "system/*.write", "patient/Observation.rs", "system/Observation.rs?_id=1"]
)
def test_a_scope_that_is_not_understood_gets_nothing(application: Any, scope: str) -> None:
    answer = ask_for_token(assertion(HELIX_KEY, claims(application.client_id)), scope=scope)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


def test_an_application_of_no_requester_may_nothing(
    client: Client, application: Any, token_for: Callable[..., str]
) -> None:
    token = token_for(application)
    application.ai_client.delete()
    answer = client.get("/api/v1/jobs", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 403


def test_a_client_asks_what_its_token_is_good_for(
    client: Client, application: Any, token_for: Callable[..., str]
) -> None:
    token = token_for(application, scope="jobs")

    def ask(text: str, client_id: str = application.client_id, key: Any = HELIX_KEY) -> Any:
        form = {"client_assertion_type": TYPE, "client_assertion": assertion(key, claims(client_id))}
        return client.post("/oauth/introspect", {**form, "token": text})

    told = ask(token).json()
    assert told == {
        "active": True,
        "client_id": application.client_id,
        "exp": told["exp"],
        "scope": "jobs",
        "sub": application.client_id,
        "token_type": "Bearer",
    }
    assert 0 < told["exp"] - time.time() <= 301
    assert ask("guess").json() == {"active": False}
    key = new_key()
    other = clients.register(
        requester=Requester.objects.create(name="Other AI"), by=Actor.staff(1), jwks=key_set(key)
    )
    assert ask(token, other.application.client_id, key).json() == {"active": False}
    assert client.post("/oauth/introspect", {"token": token}).status_code == 401


def test_a_client_ends_its_token(client: Client, application: Any, token_for: Callable[..., str]) -> None:
    token = token_for(application)
    signed = assertion(HELIX_KEY, claims(application.client_id))
    form = {"client_assertion_type": TYPE, "client_assertion": signed, "token": token}
    assert client.post("/oauth/revoke", form).status_code == 200
    answer = client.get("/api/v1/jobs", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


def test_nobody_ends_anothers_token(client: Client, application: Any, token_for: Callable[..., str]) -> None:
    token, key = token_for(application), new_key()
    other = clients.register(
        requester=Requester.objects.create(name="Other AI"), by=Actor.staff(1), jwks=key_set(key)
    )
    signed = assertion(key, claims(other.application.client_id))
    client.post("/oauth/revoke", {"client_assertion_type": TYPE, "client_assertion": signed, "token": token})
    assert client.get("/api/v1/jobs", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_tokens_are_not_stored_in_clear(application: Any, token_for: Callable[..., str]) -> None:
    from oauth2_provider.models import AccessToken

    token = token_for(application)
    stored = AccessToken.objects.get()
    assert token not in (stored.token, str(stored))


def test_the_configuration_says_where_and_how(client: Client) -> None:
    for path in ("/.well-known/smart-configuration", "/fhir/.well-known/smart-configuration"):
        told = client.get(path).json()
        assert told["token_endpoint"] == TOKEN_ADDRESS
        assert told["token_endpoint_auth_methods_supported"] == ["private_key_jwt"]
        assert told["token_endpoint_auth_signing_alg_values_supported"] == ["ES384", "RS384"]
        assert {"client-confidential-asymmetric", "permission-v2"} <= set(told["capabilities"])


def test_the_capability_statement_is_one(client: Client) -> None:
    from fhir.resources.R4B.capabilitystatement import CapabilityStatement

    answer = client.get("/fhir/metadata")
    assert answer["Content-Type"] == "application/fhir+json"
    CapabilityStatement.model_validate(answer.json())
    assert answer.json()["fhirVersion"] == "4.0.1"


def test_the_openapi_document_lists_every_operation(client: Client) -> None:
    document = client.get("/api/v1/openapi.json").json()
    operations = {
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
        if "operationId" in operation
    }
    assert operations == {
        "ask_for_consent",
        "cancel_job",
        "consult_patient_consent",
        "decide",
        "delete_webhook",
        "follow_job",
        "list_cds_services",
        "list_cohorts",
        "list_jobs",
        "list_models",
        "list_webhook_calls",
        "list_webhooks",
        "propose_cohort",
        "prove_result",
        "read_cohort",
        "read_consent_request",
        "read_job",
        "read_model",
        "read_result",
        "read_summary",
        "register_model",
        "register_webhook",
        "resend_webhook_call",
        "start_job",
    }
