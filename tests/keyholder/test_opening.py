"""Each check that refuses an opening: one test, one code."""

import shutil
import sqlite3
import time
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.keyholder.envelope import open_chunk, seal_chunk
from gateway.keyholder.service import Service
from gateway.keyholder.store import Release
from ledger.channels import Channels
from ledger.client import Proof
from ledger.embedded.client import EmbeddedLedger
from ledger.errors import (
    AccessDenied,
    EnvelopeError,
    GatewayError,
    LedgerError,
    ProofError,
    RefusedTransition,
)
from tests.keyholder.house import REQUEST, Child, House, fhir_consent, new_id


class Case:
    """alice's consent, released to one child."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.alice, self.subject = house.patient(), new_id()
        self.consent = house.grant(self.alice)
        self.child, self.released = house.release({self.subject: self.alice})

    def open(self, **options: Any) -> Any:
        return self.house.open(self.child, self.subject, **options)

    def delivered(self) -> tuple[str, bytes]:
        self.open()
        digest, sealed = self.house.seal_output(self.child, self.subject)
        assert self.house.deliver(self.child, self.subject, digest)["delivered"] == [digest]
        return digest, sealed

    def open_output(self, digest: str, sealed: bytes) -> bytes:
        return self.house.service.open_output(job=self.child.job, digest=digest, sealed=sealed)


@pytest.fixture
def case(house: House) -> Case:
    return Case(house)


def refusal(case: Case, **options: Any) -> str:
    """The code with which opening records is refused; nothing is logged as opened then."""
    before = case.house.store.counts()["openings"]
    with pytest.raises(GatewayError) as found:
        case.open(**options)
    assert case.house.store.counts()["openings"] == before
    return found.value.code


def edit_ledger(case: Case, sql: str, *values: Any) -> None:
    with sqlite3.connect(case.house.home / "ledger" / "ledger.sqlite3") as db:
        assert db.execute(sql, values).rowcount == 1
    db.close()


def test_chunks_come_one_by_one(case: Case) -> None:
    first = case.open(limit=1)
    second = case.open(limit=1, after=first.chunks[0].header.chunk)
    assert (first.more, second.more) == (True, False)
    assert {one.chunks[0].header.resource_type for one in (first, second)} == {"Condition", "Observation"}


def test_only_what_the_consent_permits_is_selected(house: House) -> None:
    alice, subject = house.patient(), new_id()
    house.add_chunk(alice, "Observation", b"{}\n", labels=("R", "HIV"))
    house.add_chunk(alice, "MedicationRequest", b"{}\n")
    house.grant(alice, types=("Observation",))
    child, _ = house.release({subject: alice})
    opened = house.open(child, subject)
    assert [(one.header.resource_type, one.header.labels) for one in opened.chunks] == [
        ("Observation", ("N",))
    ]


def test_a_deny_in_another_consent_wins(house: House) -> None:
    alice, subject = house.patient(), new_id()
    house.grant(alice)
    house.grant(alice, kind="deny", types=("Condition",))
    child, released = house.release({subject: alice})
    assert released["decision"] == "permit"
    assert [one.header.resource_type for one in house.open(child, subject).chunks] == ["Observation"]


def test_an_unconfirmed_chunk_is_not_selected(case: Case) -> None:
    with case.house.store.transaction() as db:
        db.execute("UPDATE chunks SET confirmed = 0")
    assert case.open().chunks == ()


def test_a_key_that_no_release_names_opens_nothing(case: Case) -> None:
    # Another child's key cannot unwrap; the same attempt cannot be released again for it; and a store that
    # names it is refused by what the ledger says.
    stranger = Child(case.child.job)
    with pytest.raises(EnvelopeError):
        stranger.open(case.house, case.open(), subject=case.subject, patient=case.alice)
    with pytest.raises(RefusedTransition) as found:
        case.house.release({case.subject: case.alice}, child=stranger)
    assert found.value.code == "release_differs"
    kept = case.house.store.release(case.child.job, 1)
    assert kept is not None
    kept.body["parts"][0]["key"] = stranger.public
    case.house.store.put_release(case.child.job, 1, kept)
    assert refusal(case) == "key_not_released"


def test_a_part_or_a_subject_that_was_not_released_opens_nothing(case: Case) -> None:
    case.child.part = 1
    assert refusal(case) == "part_not_released"
    case.child.part, case.subject = 0, new_id()
    assert refusal(case) == "subject_not_released"
    case.child.job = new_id()
    assert refusal(case) == "release_unknown"


def test_another_patients_chunk_is_never_offered_nor_opened(case: Case) -> None:
    house = case.house
    bob = house.patient()
    opened = case.open()
    with house.store.transaction() as db:
        own = {row[0] for row in db.execute("SELECT chunk FROM chunks WHERE patient = ?", (case.alice,))}
        others = {row[0] for row in db.execute("SELECT chunk FROM chunks WHERE patient = ?", (bob,))}
    assert {one.header.chunk for one in opened.chunks} == own
    # A worker that puts bob's blob in its place, or a store in which bob's chunk was given to alice.
    for mine, other in zip(sorted(own), sorted(others), strict=True):
        house.blobs[mine] = house.blobs[other]
    with pytest.raises(EnvelopeError):
        case.child.open(house, opened, subject=case.subject, patient=case.alice)
    with house.store.transaction() as db:
        db.execute("UPDATE chunks SET patient = ? WHERE patient = ?", (case.alice, bob))
    assert refusal(case) == "envelope_tampered"


def test_a_store_that_names_another_patient_is_refused(case: Case) -> None:
    bob = case.house.patient()
    kept = case.house.store.release(case.child.job, 1)
    assert kept is not None
    kept.body["parts"][0]["subjects"][0]["patient"] = bob
    case.house.store.put_release(case.child.job, 1, kept)
    assert refusal(case) == "consent_of_another"


def test_an_older_attempt_opens_nothing(case: Case) -> None:
    case.house.release({case.subject: case.alice}, child=Child(case.child.job, attempt=2))
    assert refusal(case) == "attempt_superseded"
    with pytest.raises(RefusedTransition) as found:
        case.house.release({case.subject: case.alice}, child=case.child)
    assert found.value.code == "attempt_superseded"


def test_a_delivered_job_opens_no_more_records(case: Case) -> None:
    case.delivered()
    assert refusal(case) == "already_delivered"


def test_after_a_revocation_on_the_ledger_nothing_opens(case: Case) -> None:
    case.open()
    case.house.revoke(case.consent)
    case.house.later()
    assert refusal(case) == "consent_revoked"
    # The next job is denied, and the denial stands on the ledger.
    child, answer = case.house.release({case.subject: case.alice})
    assert answer["decision"] == "deny"
    assert answer["subjects"][case.subject] == {
        "decision": "deny", "reasons": ["consent_revoked"], "consent": None,
    }  # fmt: skip
    assert case.house.on_ledger(f"release/{child.job}/1")["consents"] == [
        {"consent": case.consent, "decision": "deny"}
    ]
    case.child = child
    assert refusal(case) == "release_denied"


def test_a_stop_works_at_once_with_the_ledger_down(case: Case) -> None:
    digest, sealed = case.delivered()
    other_child, _ = case.house.release({case.subject: case.alice})
    case.house.process.close()
    case.house.service.stop(consent=case.consent)
    with pytest.raises(AccessDenied) as found:
        case.open_output(digest, sealed)
    assert found.value.code == "consent_stopped"
    case.child = other_child
    assert refusal(case) == "consent_stopped"
    # It is durable: a keyholder that starts again knows it, and a job asked for later gets nothing.
    case.house.store.close()
    case.house.start_ledger()
    case.house.start_keyholder()
    assert refusal(case) == "consent_stopped"
    _, answer = case.house.release({case.subject: case.alice})
    assert answer["subjects"][case.subject]["reasons"] == ["consent_stopped"]
    assert answer["decision"] == "deny"


def test_a_stop_withholds_the_result(case: Case) -> None:
    case.open()
    digest, _ = case.house.seal_output(case.child, case.subject)
    case.house.service.stop(consent=case.consent)
    assert case.house.deliver(case.child, case.subject, digest)["withheld"] == [digest]
    assert case.house.on_ledger(f"deliver/{case.child.job}") is None


def test_a_revocation_before_deliver_withholds_the_result(case: Case) -> None:
    case.open()
    digest, sealed = case.house.seal_output(case.child, case.subject)
    case.house.revoke(case.consent)
    answer = case.house.deliver(case.child, case.subject, digest)
    assert (answer["delivered"], answer["withheld"]) == ([], [digest])
    with pytest.raises(AccessDenied):
        case.open_output(digest, sealed)


def test_a_result_is_closed_after_a_revocation(case: Case) -> None:
    digest, sealed = case.delivered()
    assert case.open_output(digest, sealed)
    case.house.revoke(case.consent)
    with pytest.raises(AccessDenied) as found:
        case.open_output(digest, sealed)
    assert found.value.code == "consent_revoked"


def test_a_result_that_was_not_delivered_stays_sealed(case: Case) -> None:
    digest, sealed = case.house.seal_output(case.child, case.subject)
    with pytest.raises(AccessDenied) as found:
        case.open_output(digest, sealed)
    assert found.value.code == "not_delivered"
    with pytest.raises(RefusedTransition) as unopened:
        case.house.deliver(case.child, case.subject, digest)
    assert unopened.value.code == "output_not_opened"
    case.delivered()
    for offered in ((digest, sealed), (digest, sealed[:-1] + bytes([sealed[-1] ^ 1]))):
        with pytest.raises(AccessDenied) as other:
            case.open_output(*offered)
        assert other.value.code == "output_not_delivered"


def test_an_output_sealed_for_another_subject_does_not_open(case: Case) -> None:
    case.open()
    digest, sealed = case.house.seal_output(case.child, new_id())
    case.house.deliver(case.child, case.subject, digest)
    with pytest.raises(EnvelopeError):
        case.open_output(digest, sealed)


def test_an_expired_consent_opens_nothing_by_our_own_clock(house: House) -> None:
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 600))
    alice, subject = house.patient(), new_id()
    house.grant(alice, until=until)
    child, _ = house.release({subject: alice})
    assert house.open(child, subject).chunks
    # The ledger rounds the expiry up to the day: the exact end is in the consent, and we keep to it.
    house.clock.ahead = 700
    with pytest.raises(AccessDenied) as found:
        house.open(child, subject)
    assert found.value.code == "consent_expired"
    # A release that is asked for now says the same, whether the ledger counts the day as over or not.
    for ahead in (700, 3 * 86_400):
        house.clock.ahead = ahead
        _, answer = house.release({subject: alice})
        assert answer["subjects"][subject]["reasons"] == ["consent_expired"]


def test_an_expired_consent_closes_its_results(house: House) -> None:
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 600))
    alice, subject = house.patient(), new_id()
    house.grant(alice, until=until)
    child, _ = house.release({subject: alice})
    house.open(child, subject)
    digest, sealed = house.seal_output(child, subject)
    house.deliver(child, subject, digest)
    for ahead in (700, 3 * 86_400):
        house.clock.ahead = ahead
        with pytest.raises(AccessDenied) as found:
            house.service.open_output(job=child.job, digest=digest, sealed=sealed)
        assert found.value.code == "consent_expired"


def test_a_release_has_a_limited_age_by_our_own_clock(case: Case) -> None:
    case.house.clock.ahead = 3700
    assert refusal(case) == "release_too_old"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "mark_missing"),
        (b"{}", "mark_malformed"),
        (b'{"set":0}', "mark_malformed"),
        (b"\xff", "mark_malformed"),
    ],
)
def test_a_missing_or_malformed_mark_refuses(case: Case, value: bytes | None, code: str) -> None:
    key = f"revoked/{case.consent}/"
    if value is None:
        edit_ledger(case, "DELETE FROM state WHERE key LIKE ? || '%'", key)
    else:
        edit_ledger(case, "UPDATE state SET value = ? WHERE key LIKE ? || '%'", value, key)
    assert refusal(case) == code


def test_a_release_with_a_foreign_nonce_refuses(case: Case) -> None:
    kept = case.house.store.release(case.child.job, 1)
    assert kept is not None
    case.house.store.put_release(case.child.job, 1, Release(kept.body, new_id(), kept.issued))
    assert refusal(case) == "release_foreign"


def test_another_request_than_the_released_one_refuses(case: Case) -> None:
    kept = case.house.store.release(case.child.job, 1)
    assert kept is not None
    kept.body["request"] = {**REQUEST, "purpose": "TREAT"}
    case.house.store.put_release(case.child.job, 1, kept)
    assert refusal(case) == "request_differs"


def test_another_contract_than_ours_refuses(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.keyholder.opening.source_digest", new_id)
    assert refusal(case) == "contract_differs"


def test_a_commitment_that_is_not_of_our_opening_refuses(case: Case) -> None:
    value = case.house.on_ledger(f"consent/{case.consent}")
    changed = case.house.on_ledger(f"consent/{case.consent}")["commitment"][::-1]
    assert changed != value["commitment"]
    edit_ledger(
        case,
        "UPDATE state SET value = CAST(replace(CAST(value AS TEXT), ?, ?) AS BLOB) WHERE key = ?",
        value["commitment"], changed, f"consent/{case.consent}",
    )  # fmt: skip
    assert refusal(case) == "commitment_differs"


class Replaying(EmbeddedLedger):
    """A ledger's process that answers every read with an answer it gave before."""

    kept: Proof | None = None

    def read(self, keys: Sequence[str], *, nonce: bytes) -> Proof:
        self.kept = self.kept or super().read(keys, nonce=nonce)
        return self.kept


class Late(EmbeddedLedger):
    """A ledger that takes its time."""

    def read(self, keys: Sequence[str], *, nonce: bytes) -> Proof:
        proof = super().read(keys, nonce=nonce)
        time.sleep(0.2)
        return proof


def test_a_replayed_answer_refuses(case: Case) -> None:
    ledger = Replaying(case.house.home / "ledger", identity="keyholder")
    ledger.read(["release/none/1"], nonce=bytes(32))
    case.house.service = Service(case.house.store, Channels.single(ledger, case.house.trust))
    with pytest.raises(ProofError):
        case.open()


def test_an_answer_that_comes_too_late_refuses(case: Case) -> None:
    ledger = Late(case.house.home / "ledger", identity="keyholder")
    case.house.service = Service(case.house.store, Channels.single(ledger, case.house.trust), delta=0.1)
    with pytest.raises(LedgerError) as found:
        case.open()
    assert found.value.code == "reading_too_old"


class Stopping(EmbeddedLedger):
    """While it is read, the patient asks to stop."""

    house: House
    consent: str

    def read(self, keys: Sequence[str], *, nonce: bytes) -> Proof:
        self.house.store.deny(self.consent, at=0)
        return super().read(keys, nonce=nonce)


def test_a_stop_during_an_opening_is_seen_before_it_answers(case: Case) -> None:
    ledger = Stopping(case.house.home / "ledger", identity="keyholder")
    ledger.house, ledger.consent = case.house, case.consent
    case.house.service = Service(case.house.store, Channels.single(ledger, case.house.trust))
    assert refusal(case) == "consent_stopped"


def test_a_consent_whose_opening_was_destroyed_opens_nothing(case: Case) -> None:
    with case.house.store.transaction() as db:
        db.execute("DELETE FROM consents")
    assert refusal(case) == "opening_unknown"


def test_with_the_ledger_down_nothing_opens(case: Case) -> None:
    case.house.process.close()
    with pytest.raises(LedgerError):
        case.open()
    case.house.start_ledger()


def test_a_ledger_that_was_put_back_refuses(case: Case) -> None:
    house, folder = case.house, case.house.home / "ledger"
    house.process.close()
    shutil.copy(folder / "ledger.sqlite3", house.home / "backup")
    house.start_ledger()
    case.open()
    house.revoke(case.consent)
    house.later()
    assert refusal(case) == "consent_revoked"
    house.process.close()
    for left in folder.glob("ledger.sqlite3*"):
        left.unlink()
    shutil.copy(house.home / "backup", folder / "ledger.sqlite3")
    house.start_ledger()
    house.later()
    assert refusal(case) == "ledger_went_back"
    house.store.close()
    house.start_keyholder()
    assert refusal(case) == "ledger_went_back"


def test_a_keyholder_store_that_was_put_back_revives_nothing(case: Case) -> None:
    house, folder = case.house, case.house.home / "keyholder"
    house.store.close()
    shutil.copytree(folder, house.home / "backup")
    house.start_keyholder()
    later, _ = house.release({case.subject: case.alice})
    house.revoke(case.consent)
    house.store.close()
    shutil.rmtree(folder)
    shutil.copytree(house.home / "backup", folder)
    house.start_keyholder()
    assert refusal(case) == "consent_revoked"
    case.child = later
    assert refusal(case) == "release_unknown"


def test_a_flipped_byte_in_a_header_or_a_blob_is_an_alarm(case: Case) -> None:
    opened = case.open()
    for chunk, blob in case.house.blobs.items():
        case.house.blobs[chunk] = blob[:40] + bytes([blob[40] ^ 1]) + blob[41:]
    with pytest.raises(EnvelopeError):
        case.child.open(case.house, opened, subject=case.subject, patient=case.alice)
    with case.house.store.transaction() as db:
        (header,) = db.execute("SELECT header FROM chunks ORDER BY chunk LIMIT 1").fetchone()
        flipped = header[:20] + bytes([header[20] ^ 1]) + header[21:]
        db.execute("UPDATE chunks SET header = ? WHERE header = ?", (flipped, header))
    assert refusal(case) == "envelope_tampered"


def test_a_chunk_of_another_version_does_not_open(case: Case) -> None:
    opened = case.open(limit=1)
    header = opened.chunks[0].header
    blob = seal_chunk(header.dek, b"{}\n", patient=case.alice, chunk=header.chunk, version=2)
    with pytest.raises(EnvelopeError):
        open_chunk(header.dek, blob, patient=case.alice, chunk=header.chunk, version=1)
    with case.house.store.transaction() as db:
        db.execute("UPDATE chunks SET version = 2 WHERE chunk = ?", (header.chunk,))
    assert refusal(case) == "envelope_tampered"


def test_an_opening_that_cannot_be_logged_does_not_take_place(case: Case) -> None:
    with case.house.store.transaction() as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
    with case.house.store.transaction() as db:
        db.execute(f"PRAGMA max_page_count = {pages}")
    codes = set()
    for _ in range(40):
        try:
            case.open()
        except GatewayError as error:
            codes.add(error.code)
    assert codes == {"store_unwritable"}


def test_a_consent_says_the_same_when_it_is_granted_again(house: House) -> None:
    alice, consent = house.patient(), new_id()
    first = house.service.grant(consent=consent, patient=alice, fhir=fhir_consent())
    assert house.service.grant(consent=consent, patient=alice, fhir=fhir_consent()) == first
    with pytest.raises(RefusedTransition) as found:
        house.service.grant(consent=consent, patient=alice, fhir=fhir_consent(types=("Condition",)))
    assert found.value.code == "consent_differs"
