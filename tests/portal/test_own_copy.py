"""/copy: the patient's own copy through a real ledger and keyholder, and who does not get one."""

import json
import time
from datetime import timedelta
from typing import Any

import orjson
import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from consent.models import News, random_id
from gateway.keyholder.client import Keyholder
from gateway.keyholder.envelope import seal_chunk
from gateway.records import lines, own_copies
from gateway.records.models import Chunk, OwnCopy
from ledger.audit.models import AuditRow
from ledger.client import Event, connect
from ledger.webauthn import copy_challenge
from tests.passkeys import Passkey

pytestmark = pytest.mark.django_db

RECORDS: dict[str, list[dict[str, Any]]] = {
    "Observation": [
        {
            "resourceType": "Observation",
            "id": f"o{number}",
            "status": "final",
            "code": {"text": "Cholesterol"},
            "effectiveDateTime": f"2024-03-0{number}",
            "valueQuantity": {"value": 200 + number, "unit": "mg/dL"},
        }
        for number in (1, 2)
    ],
    "Condition": [{"resourceType": "Condition", "id": "c", "code": {"text": "Hay fever"}}],
}


def seal(keyholder: Keyholder, patient: str, kind: str, received: list[bytes]) -> None:
    id = random_id()
    chunks: Any = [
        {"chunk": id, "resource_type": kind, "labels": ["N"], "count": len(received), "version": 1}
    ]
    keys = keyholder.new_chunks(patient=patient, chunks=chunks)["keys"]
    blob = seal_chunk(keys[id], lines.pack(received), patient=patient, chunk=id, version=1)
    Chunk.objects.create(id=id, patient_id=patient, blob=blob)
    keyholder.confirm_chunks(chunks=[{"chunk": id, "version": 1}])


@pytest.fixture
def keyholder(no_keyholder: None, installation: Any, alice: Any, charlie: Any) -> Keyholder:
    """Records of alice and of charlie are sealed."""
    found = Keyholder(settings.KEYHOLDER_SOCKET)
    for patient in (alice, charlie):
        found.enrol(patient=patient.pk)
    for kind, resources in RECORDS.items():
        seal(found, alice.pk, kind, [orjson.dumps(each) for each in resources])
    seal(found, charlie.pk, "Observation", [b'{"resourceType":"Observation","id":"charlies"}'])
    return found


@pytest.fixture
def browser(browser: Client) -> Client:
    """alice, who showed a moment ago that it is her."""
    show_again(browser)
    return browser


def show_again(client: Client) -> None:
    client.post(reverse("account_reauthenticate"), {"password": "correct horse battery"})


def ask(browser: Client) -> OwnCopy:
    answer = browser.post("/copy")
    assert answer.status_code == 302
    return OwnCopy.objects.latest("asked_at")


def opened(browser: Client) -> OwnCopy:
    copy = ask(browser)
    assert browser.post(f"/copy/{copy.pk}").status_code == 302
    copy.refresh_from_db()
    assert copy.state == OwnCopy.State.RECORDED
    return copy


def test_from_asking_to_every_form_of_it(browser: Client, alice: Any, keyholder: Keyholder) -> None:
    assert "Get my copy" in browser.get("/copy").content.decode()
    copy = ask(browser)
    assert "One more step" in browser.get(f"/copy/{copy.pk}").content.decode()
    assert browser.get(f"/copy/{copy.pk}/read").status_code == 403  # not on the ledger yet
    copy = opened(browser)
    ledger = connect(settings.LEDGER_URL, identity="gateway")
    (value,) = ledger.evaluate([f"access/{copy.pk}"])
    assert value is not None
    assert json.loads(value)["kind"] == "subject"

    page = browser.get(f"/copy/{copy.pk}/read").content.decode()
    assert page.index("Test results") < page.index("Health problems")
    assert page.index("202 mg/dL") < page.index("201 mg/dL")
    assert "Hay fever" in page
    assert "charlies" not in page

    def file(form: str) -> bytes:
        answer = browser.get(f"/copy/{copy.pk}/my-records.{form}")
        assert answer["Content-Disposition"].startswith("attachment")
        return b"".join(answer) if answer.streaming else answer.content

    said = [orjson.loads(line) for line in file("ndjson").splitlines()]
    assert sorted(said, key=str) == sorted([each for kind in RECORDS.values() for each in kind], key=str)
    bundle = json.loads(file("json"))
    assert [entry["resource"] for entry in bundle["entry"]] == said
    assert file("pdf").startswith(b"%PDF")
    assert browser.get(f"/copy/{copy.pk}/my-records.exe").status_code == 404

    codes = [
        json.loads(bytes(row.line))["details"]["code"]
        for row in AuditRow.objects.filter(kind="access.subject", step_of=copy.pk).order_by("pk")
    ]
    assert codes == ["asked", "committed", "opened", "opened", "opened", "opened"]
    assert News.objects.filter(patient=alice, kind="copy").exists()
    assert "Your own copy" in browser.get("/access?show=copy").content.decode()
    assert "You asked for a copy of your own records" in browser.get(f"/access/{copy.pk}").content.decode()


def test_a_resource_that_came_over_several_lines_is_whole(
    browser: Client, alice: Any, keyholder: Keyholder
) -> None:
    received = b'{\r\n  "resourceType": "Goal",\n  "id": "g"\n}'
    seal(keyholder, alice.pk, "Goal", [received])
    copy = opened(browser)
    bundle = b"".join(browser.get(f"/copy/{copy.pk}/my-records.json"))
    assert received in bundle
    ndjson = b"".join(browser.get(f"/copy/{copy.pk}/my-records.ndjson")).splitlines()
    assert {"resourceType": "Goal", "id": "g"} in [json.loads(line) for line in ndjson]
    assert len(ndjson) == 4


def test_a_session_that_was_left_open_gets_no_copy(
    browser: Client, keyholder: Keyholder, monkeypatch: Any
) -> None:
    later = time.time() + 1200
    monkeypatch.setattr("allauth.account.internal.flows.reauthentication.time.time", lambda: later)
    for answer in (browser.get("/copy"), browser.post("/copy"), browser.post(f"/copy/{'aa' * 32}")):
        assert answer.status_code == 302
        assert "reauthenticate" in answer["Location"]
    assert not OwnCopy.objects.exists()


@pytest.mark.parametrize("said", ["[" * 100_000, "null", "{", '{"credential": 1}'])
def test_what_no_passkey_says_is_no_signature(browser: Client, keyholder: Keyholder, said: str) -> None:
    copy = ask(browser)
    assert browser.post(f"/copy/{copy.pk}", {"signature": said}).status_code == 409
    copy.refresh_from_db()
    assert copy.state == OwnCopy.State.ASKED


def test_a_session_that_was_left_open_reads_none_that_was_begun(
    browser: Client, keyholder: Keyholder, monkeypatch: Any
) -> None:
    copy = opened(browser)
    later = time.time() + 1200
    monkeypatch.setattr("allauth.account.internal.flows.reauthentication.time.time", lambda: later)
    for path in ("read", "my-records.ndjson", "my-records.json", "my-records.pdf"):
        answer = browser.get(f"/copy/{copy.pk}/{path}")
        assert answer.status_code == 302
        assert "reauthenticate" in answer["Location"]


def test_anothers_copy_looks_like_none(browser: Client, stranger: Client, keyholder: Keyholder) -> None:
    copy = opened(browser)
    show_again(stranger)
    for path in ("", "/read", "/my-records.ndjson"):
        assert stranger.get(f"/copy/{copy.pk}{path}").status_code == 404
        assert stranger.get(f"/copy/{'aa' * 32}{path}").status_code == 404


def test_the_same_post_twice_is_one_copy(browser: Client, keyholder: Keyholder) -> None:
    assert ask(browser) == ask(browser)
    copy = opened(browser)
    assert browser.post(f"/copy/{copy.pk}").status_code == 302
    assert OwnCopy.objects.count() == 1
    assert News.objects.filter(kind="copy").count() == 1


def test_a_copy_that_is_over_opens_nothing(browser: Client, keyholder: Keyholder) -> None:
    copy = opened(browser)
    OwnCopy.objects.update(expires_at=timezone.now())
    assert "The hour is over" in browser.get(f"/copy/{copy.pk}").content.decode()


def test_with_the_ledger_away_the_page_says_so(browser: Client, settings: Any, keyholder: Keyholder) -> None:
    copy = ask(browser)
    settings.KEYHOLDER_SOCKET = "/nowhere.sock"
    answer = browser.post(f"/copy/{copy.pk}")
    assert answer.status_code == 503
    assert "Nothing was opened" in answer.content.decode()


def test_who_has_a_passkey_signs_for_it(browser: Client, alice: Any, keyholder: Keyholder) -> None:
    phone = Passkey()
    keyholder.enrol_passkey(patient=alice.pk, credential=phone.credential, public_key=phone.public_key)
    copy = ask(browser)
    page = browser.get(f"/copy/{copy.pk}").content.decode()
    assert f'data-credentials="{phone.credential}"' in page
    expires = int(copy.expires_at.timestamp())
    challenge = copy_challenge(patient=alice.pk, access=copy.pk, expires=expires)
    assert f'data-challenge="{challenge.hex()}"' in page

    def post(signature: str) -> Any:
        return browser.post(f"/copy/{copy.pk}", {"signature": signature})

    assert post("").status_code == 409
    assert post("{").status_code == 409
    wrong = phone.sign(bytes(32), origin="http://localhost:8000", rp_id="localhost")
    assert post(json.dumps(wrong.to_json())).status_code == 409
    assert OwnCopy.objects.get().state == OwnCopy.State.ASKED
    signed = phone.sign(challenge, origin="http://localhost:8000", rp_id="localhost")
    assert post(json.dumps(signed.to_json())).status_code == 302
    assert "Hay fever" in browser.get(f"/copy/{copy.pk}/read").content.decode()


def test_a_copy_that_no_page_asked_for_is_told_all_the_same(alice: Any, keyholder: Keyholder) -> None:
    """As a web process that was taken over could ask for one."""
    access, expires = random_id(), int(time.time()) + 3600
    answer = keyholder.own_copy(access=access, patient=alice.pk, expires=expires)
    event = Event(
        block=answer["block"] or 0,
        index=0,
        tx_id=answer["tx_id"],
        name="Accessed",
        payload={"access": access, "kind": "subject"},
    )
    for _ in range(2):
        own_copies.record_accessed(event)
    assert News.objects.get(patient=alice, kind="copy").about == access
    assert OwnCopy.objects.get().state == OwnCopy.State.RECORDED


@pytest.mark.parametrize("whose", ["another's", "hers"])
def test_a_row_that_was_put_there_before_hides_nothing(
    alice: Any, charlie: Any, keyholder: Keyholder, whose: str
) -> None:
    """As a web process that was taken over could write it: for another patient, or without the news."""
    access, now = random_id(), timezone.now().replace(microsecond=0)
    OwnCopy.objects.create(
        id=access,
        patient=charlie if whose == "another's" else alice,
        asked_at=now,
        expires_at=now + timedelta(hours=1),
    )
    answer = keyholder.own_copy(access=access, patient=alice.pk, expires=int(now.timestamp()) + 3600)
    payload = {"access": access, "kind": "subject"}
    event = Event(
        block=answer["block"] or 0, index=0, tx_id=answer["tx_id"], name="Accessed", payload=payload
    )
    for _ in range(2):
        own_copies.record_accessed(event)
    assert OwnCopy.objects.get().patient == alice
    assert News.objects.filter(patient=alice, kind="copy", about=access).count() == 1
