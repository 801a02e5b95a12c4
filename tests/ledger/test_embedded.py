"""ledger/embedded: what the machinery promises, whatever the contract says."""

import json
import secrets
import threading
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.audit.merkle import leaf_hash, root_of
from ledger.client import VALID, Answer, Envelope, Proof
from ledger.contract import canonical as contract_canonical
from ledger.contract.errors import Refused
from ledger.embedded import blocks
from ledger.embedded.client import EmbeddedLedger
from ledger.embedded.folder import identity_path, make_ledger, read_key, seal_envelope
from ledger.embedded.fsck import check
from ledger.embedded.server import LedgerProcess
from ledger.embedded.store import Store
from ledger.embedded.trust import EmbeddedTrust
from ledger.errors import (
    InvalidInput,
    LedgerError,
    OutcomeUnknown,
    PrepareError,
    ProofError,
    SendError,
)
from ledger.rpc import AlreadyServed, Connection
from tests.ledger.conftest import Toy, commit, put, submit
from tests.ledger.toy import run


def test_a_transaction_is_prepared_sent_and_committed(ledger: EmbeddedLedger) -> None:
    envelope = ledger.prepare("Put", {"key": "a", "value": "1"})
    assert envelope.result == {"before": None}
    assert ledger.evaluate(["a"]) == [None]
    ledger.send(envelope)
    outcome = ledger.outcome(envelope.tx_id, timeout=10)
    assert (outcome.validity, outcome.block) == (VALID, 1)
    assert ledger.evaluate(["a", "b"]) == [b"1", None]
    assert ledger.height() == 2


def test_the_first_block_registers_the_organisation(ledger: EmbeddedLedger) -> None:
    assert ledger.evaluate(["organisations"]) == [b'["Embedded"]']
    assert ledger.height() == 1


def test_making_a_ledger_again_changes_nothing(toy: Toy, ledger: EmbeddedLedger) -> None:
    put(ledger, "a", "1")
    before = {path: path.read_bytes() for path in toy.folder.rglob("*.key")}
    make_ledger(toy.folder, run=run)
    assert before == {path: path.read_bytes() for path in toy.folder.rglob("*.key")}
    assert ledger.evaluate(["a"]) == [b"1"]


def test_private_keys_are_for_this_account_alone(toy: Toy) -> None:
    private = [toy.folder / "ledger.key", toy.folder / "ledger.sqlite3", *toy.folder.glob("identities/*")]
    assert len(private) == 5
    assert {path.stat().st_mode & 0o077 for path in private} == {0}


def test_no_transaction_sees_its_own_writes(ledger: EmbeddedLedger) -> None:
    put(ledger, "a", "old")
    assert ledger.prepare("Put", {"key": "a", "value": "new"}).result == {"before": "old"}


def test_the_first_of_two_on_one_state_wins(ledger: EmbeddedLedger) -> None:
    first, second = (ledger.prepare("Add", {"key": "n"}) for _ in range(2))
    ledger.send(second)
    ledger.send(first)
    assert ledger.outcome(second.tx_id, timeout=10).validity == "VALID"
    assert ledger.outcome(first.tx_id, timeout=10).validity == "MVCC_READ_CONFLICT"
    assert ledger.evaluate(["n"]) == [b"1"]


def test_the_same_value_written_again_is_still_another_version(ledger: EmbeddedLedger) -> None:
    put(ledger, "a", "x")
    stale = ledger.prepare("Put", {"key": "a", "value": "y"})
    put(ledger, "a", "x")
    assert commit(ledger, stale).validity == "MVCC_READ_CONFLICT"


def test_a_key_that_came_into_a_range_conflicts(ledger: EmbeddedLedger) -> None:
    put(ledger, "r/1", "x")
    stale = ledger.prepare("Count", {"start": "r/", "end": "r0", "to": "n"})
    assert stale.result == {"found": 1}
    put(ledger, "r/2", "x")
    assert commit(ledger, stale).validity == "PHANTOM_READ_CONFLICT"
    fresh = ledger.prepare("Count", {"start": "r/", "end": "r0", "to": "n"})
    put(ledger, "s", "outside the range")
    assert commit(ledger, fresh).is_valid


def test_a_copy_changes_the_state_once(toy: Toy, ledger: EmbeddedLedger) -> None:
    """It reads nothing, so only its id gives the copy away."""
    envelope = ledger.prepare("Blind", {"key": "a", "value": "old"})
    first = commit(ledger, envelope)
    put(ledger, "a", "new")
    ledger.send(envelope)
    put(ledger, "later", "x")  # in the copy's block or one behind it
    assert ledger.outcome(envelope.tx_id, timeout=1) == first
    assert ledger.evaluate(["a"]) == [b"new"]
    assert [event.tx_id for event in ledger.events((0, 0), wait=0)].count(envelope.tx_id) == 1
    store = Store(toy.folder / "ledger.sqlite3")
    with store.view() as view:
        rows = [row for number in range(ledger.height()) for row in view.transactions(number)]
    store.close()
    copies = [validity for _, tx_id, validity, *_ in rows if tx_id == envelope.tx_id]
    assert copies == ["VALID", "DUPLICATE_TXID"]


def test_copies_in_one_block_change_the_state_once(toy: Toy, ledger: EmbeddedLedger) -> None:
    envelope = ledger.prepare("Blind", {"key": "a", "value": "x"})
    with toy.process._ready:  # the committer finds both at once
        transaction = blocks.open_envelope(envelope.data, toy.process._config)
        toy.process._queue.extend([transaction, transaction])
        toy.process._ready.notify()
    assert ledger.outcome(envelope.tx_id, timeout=5).is_valid
    store = Store(toy.folder / "ledger.sqlite3")
    with store.view() as view:
        assert [row[2] for row in view.transactions(1)] == ["VALID", "DUPLICATE_TXID"]
    store.close()
    assert check(toy.folder).good


def test_a_commit_waits_for_the_disk(toy: Toy) -> None:
    """No test can cut the power; what SQLite promises for FULL (2) in WAL mode is what we ask for."""
    sql = toy.process._store._writer
    assert sql.execute("PRAGMA synchronous").fetchone() == (2,)
    assert sql.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_policy_that_this_organisation_cannot_meet_stops_every_later_write(ledger: EmbeddedLedger) -> None:
    assert submit(ledger, "Guard", {"key": "g", "orgs": ["Elsewhere"]}).is_valid
    assert put(ledger, "g", "x").validity == "ENDORSEMENT_POLICY_FAILURE"
    assert submit(ledger, "Guard", {"key": "h", "orgs": ["Embedded", "Elsewhere"]}).is_valid
    assert put(ledger, "h", "x").is_valid
    assert ledger.evaluate(["g", "h"]) == [b"guarded", b"x"]


def test_a_refusal_commits_nothing(toy: Toy, ledger: EmbeddedLedger) -> None:
    with pytest.raises(Refused) as refusal:
        ledger.prepare("Nothing", {})
    assert refusal.value.code == "unknown_transaction"
    with pytest.raises(Refused):
        ledger.prepare("RegisterOrganisation", {"org": "Mallory"})  # the gateway's role may not
    assert toy.connect("admin").prepare("RegisterOrganisation", {"org": "Embedded"}).result == {}
    assert ledger.height() == 1


def test_a_fault_in_the_contract_is_a_clear_error(ledger: EmbeddedLedger) -> None:
    with pytest.raises(PrepareError) as raised:
        ledger.prepare("Broken", {})
    assert raised.value.code == "internal_error"
    with pytest.raises(PrepareError) as raised:
        ledger.prepare("Put", {"key": "é", "value": "x"})
    assert raised.value.code == "contract_broken"


@pytest.mark.parametrize("args", [{"x": 1.5}, {"x": 2**53}, {"é": 1}, {"x": b"b"}, {"x": "\ud800"}])
def test_arguments_without_a_canonical_form_are_invalid(
    ledger: EmbeddedLedger, args: dict[str, object]
) -> None:
    with pytest.raises(InvalidInput):
        ledger.prepare("Put", args)


def test_transient_data_reaches_the_contract_and_no_file(toy: Toy, ledger: EmbeddedLedger) -> None:
    secret = secrets.token_bytes(48)
    envelope = ledger.prepare("Secret", {"key": "s"}, {"secret": secret})
    assert commit(ledger, envelope).is_valid
    assert ledger.evaluate(["s"]) == [b"48"]
    toy.process.close()
    forms = [secret, secret.hex().encode(), b64encode(secret)]
    for path in toy.folder.rglob("*"):
        if path.is_file():
            assert not any(form in path.read_bytes() for form in forms)
    toy.start()


@pytest.mark.parametrize(("offset", "good"), [(9, True), (-9, True), (11, False), (-11, False)])
def test_a_time_far_from_the_ledgers_clock_is_refused(toy: Toy, offset: float, good: bool) -> None:
    client = EmbeddedLedger(toy.folder, identity="gateway", clock=lambda: toy.clock.now + offset)
    if good:
        assert put(client, "a", "1").is_valid
        return
    with pytest.raises(PrepareError) as raised:
        client.prepare("Put", {"key": "a", "value": "1"})
    assert raised.value.code == "clock_skew"


def test_a_wrong_clock_keeps_nobody_from_stopping(toy: Toy) -> None:
    client = EmbeddedLedger(toy.folder, identity="gateway", clock=lambda: toy.clock.now - 10**6)
    assert submit(client, "RevokeConsent", {"key": "stop", "value": "1"}).is_valid


# Signatures


def test_only_a_configured_identity_may_propose(toy: Toy) -> None:
    client = toy.connect()
    client._identity = "keyholder"  # signs with the gateway's key
    with pytest.raises(PrepareError) as raised:
        client.prepare("Put", {"key": "a", "value": "1"})
    assert raised.value.code == "identity_unknown"
    client._identity = "nobody"
    with pytest.raises(PrepareError):
        client.prepare("Put", {"key": "a", "value": "1"})


def altered(envelope: Envelope, change: str) -> bytes:
    data = orjson.loads(envelope.data)
    if change == "write":
        data["body"]["writes_b64"]["a"] = "bWFsbG9yeQ=="
    elif change == "identity":
        data["body"]["proposal"]["identity"] = "admin"
    elif change == "no endorsement":
        data["endorsements"] = []
    elif change == "endorser":
        data["endorsements"][0]["org"] = "Elsewhere"
    elif change == "signature":
        data["signature"] = "00" * 64
    elif change == "extra":
        data["extra"] = 1
    elif change == "spaces":
        return json.dumps(data).encode()
    elif change == "not JSON":
        return b"\xff" + envelope.data
    return blocks.canonical(data)


@pytest.mark.parametrize(
    "change",
    ["write", "identity", "no endorsement", "endorser", "signature", "extra", "spaces", "not JSON"],
)
def test_an_altered_envelope_is_not_ordered(ledger: EmbeddedLedger, change: str) -> None:
    envelope = ledger.prepare("Put", {"key": "a", "value": "1"})
    with pytest.raises(SendError) as raised:
        ledger.send(replace(envelope, data=altered(envelope, change)))
    assert raised.value.code == "envelope_invalid"
    assert commit(ledger, envelope).is_valid


def test_another_identity_cannot_sign_what_was_endorsed_for_one(toy: Toy, ledger: EmbeddedLedger) -> None:
    envelope = ledger.prepare("Put", {"key": "a", "value": "1"})
    data = orjson.loads(envelope.data)
    admin = read_key(identity_path(toy.folder, "admin"))
    stolen = seal_envelope(data["body"], data["endorsements"], admin)
    with pytest.raises(SendError):
        ledger.send(replace(envelope, data=stolen))


def test_transient_data_is_bound_by_the_proposals_signature(toy: Toy, ledger: EmbeddedLedger) -> None:
    sent: list[dict[str, object]] = []

    class Recorder(Connection):
        def call(self, method: str, params: dict[str, object], *, timeout: float = 10) -> dict[str, object]:
            sent.append({"method": method, "params": params})
            return super().call(method, params, timeout=timeout)

    ledger._connection = Recorder(toy.folder / "ledger.sock")
    ledger.prepare("Secret", {"key": "s"}, {"secret": b"one"})
    params = sent[0]["params"]
    assert isinstance(params, dict)
    params["transient_b64"] = {"secret": "dHdv"}
    with pytest.raises(PrepareError) as raised:
        Connection(toy.folder / "ledger.sock").call("prepare", params)
    assert raised.value.code == "identity_unknown"


def test_changed_identities_become_a_block(toy: Toy, ledger: EmbeddedLedger) -> None:
    put(ledger, "a", "1")
    toy.process.close()
    path = toy.folder / "identities.json"
    listed = json.loads(path.read_text())
    del listed["gateway"]
    path.write_text(json.dumps(listed))
    toy.start()
    with pytest.raises(PrepareError):
        ledger.prepare("Put", {"key": "a", "value": "1"})
    assert put(toy.connect("admin"), "b", "1").block == 3
    assert check(toy.folder).good


# Reads


def test_a_signed_read_holds(toy: Toy, ledger: EmbeddedLedger) -> None:
    put(ledger, "a", "1")
    nonce = secrets.token_bytes(32)
    (reading,) = toy.trust.check(ledger.read(["a", "b"], nonce=nonce), keys=["a", "b"], nonce=nonce)
    assert (reading.org, reading.height, reading.values) == ("Embedded", 2, {"a": b"1", "b": None})


def test_any_change_to_a_signed_read_is_seen(toy: Toy, ledger: EmbeddedLedger) -> None:
    put(ledger, "a", "1")
    nonce = secrets.token_bytes(32)
    proof = ledger.read(["a", "b"], nonce=nonce)
    (good,) = proof.answers
    flipped = bytes([good.payload[0] ^ 1]) + good.payload[1:]
    other = blocks.Ed25519PrivateKey.generate()
    forged = Answer(
        "Embedded",
        good.payload,
        other.sign(blocks.READ + good.payload),
        other.public_key().public_bytes_raw(),
    )
    wrong = [
        Proof("fabric", proof.answers),
        Proof("embedded", ()),
        Proof("embedded", (good, good)),
        Proof("embedded", (forged,)),
        Proof("embedded", (replace(good, payload=flipped),)),
        Proof("embedded", (replace(good, org="Elsewhere"),)),
        Proof("embedded", (replace(good, signature=b""),)),
    ]
    for bad in wrong:
        with pytest.raises(ProofError):
            toy.trust.check(bad, keys=["a", "b"], nonce=nonce)
    for keys, other_nonce in ((["a"], nonce), (["b", "a"], nonce), (["a", "b"], secrets.token_bytes(32))):
        with pytest.raises(ProofError):
            toy.trust.check(proof, keys=keys, nonce=other_nonce)


def test_another_ledgers_answer_is_not_believed(toy: Toy, ledger: EmbeddedLedger) -> None:
    nonce = secrets.token_bytes(32)
    proof = ledger.read(["a"], nonce=nonce)
    with pytest.raises(ProofError):
        EmbeddedTrust("00" * 32).check(proof, keys=["a"], nonce=nonce)


def test_a_short_nonce_is_refused(ledger: EmbeddedLedger) -> None:
    with pytest.raises(InvalidInput):
        ledger.read(["a"], nonce=b"1")


# Events


def test_events_come_in_order_after_a_checkpoint(ledger: EmbeddedLedger) -> None:
    for number in range(3):
        put(ledger, f"k/{number}", "x")
    found = list(ledger.events((0, 0), wait=0))
    assert [(event.block, event.name, event.payload["key"]) for event in found] == [
        (1, "Put", "k/0"),
        (2, "Put", "k/1"),
        (3, "Put", "k/2"),
    ]
    assert list(ledger.events((2, 0), wait=0)) == found[2:]


def test_an_invalid_transaction_has_no_event(ledger: EmbeddedLedger) -> None:
    stale = ledger.prepare("Put", {"key": "a", "value": "1"})
    put(ledger, "a", "2")
    assert not commit(ledger, stale).is_valid
    assert stale.tx_id not in [event.tx_id for event in ledger.events((-1, -1), wait=0)]


def test_a_listener_hears_at_once(toy: Toy, ledger: EmbeddedLedger) -> None:
    heard = threading.Event()

    def listen() -> None:
        for event in toy.connect().events((0, 0), wait=20):
            if event.payload == {"key": "news"}:
                heard.set()
                return

    thread = threading.Thread(target=listen)
    thread.start()
    put(ledger, "news", "x")
    assert heard.wait(10)
    thread.join(10)


# The process


def test_an_unknown_transaction_is_unknown(ledger: EmbeddedLedger) -> None:
    with pytest.raises(OutcomeUnknown):
        ledger.outcome("00" * 32, timeout=0.05)


def test_a_dead_ledger_is_said_at_each_stage(toy: Toy, ledger: EmbeddedLedger) -> None:
    envelope = ledger.prepare("Put", {"key": "a", "value": "1"})
    toy.process.close()
    with pytest.raises(PrepareError, match="No process listens"):
        ledger.prepare("Put", {"key": "a", "value": "1"})
    with pytest.raises(SendError):
        ledger.send(envelope)
    with pytest.raises(OutcomeUnknown):
        ledger.outcome(envelope.tx_id, timeout=0.1)
    with pytest.raises(LedgerError):
        ledger.evaluate(["a"])
    toy.start()
    assert commit(ledger, envelope).is_valid


def test_a_second_process_refuses(toy: Toy) -> None:
    with pytest.raises(AlreadyServed):
        LedgerProcess(toy.folder, run=run)


def test_a_folder_with_another_key_is_not_served(toy: Toy) -> None:
    toy.process.close()
    key = toy.folder / "ledger.key"
    good = key.read_text()
    key.write_text("11" * 32)
    with pytest.raises(LedgerError, match="not one pair"):
        toy.start()
    key.write_text(good)
    toy.start()


def test_many_writers_share_blocks_and_lose_nothing(toy: Toy, ledger: EmbeddedLedger) -> None:
    def write(writer: int) -> None:
        client = toy.connect()
        envelopes = [client.prepare("Put", {"key": f"{writer}/{n}", "value": "x"}) for n in range(20)]
        for envelope in envelopes:
            client.send(envelope)
        assert all(client.outcome(envelope.tx_id, timeout=10).is_valid for envelope in envelopes)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keys = [f"{writer}/{n}" for writer in range(8) for n in range(20)]
    assert ledger.evaluate(keys) == [b"x"] * len(keys)
    assert ledger.height() < len(keys)
    assert check(toy.folder).good


def test_a_restored_database_shows_a_lower_height(toy: Toy, ledger: EmbeddedLedger) -> None:
    toy.process.close()
    file = toy.folder / "ledger.sqlite3"
    old = file.read_bytes()
    toy.start()
    put(ledger, "a", "1")
    assert ledger.height() == 2
    toy.process.close()
    file.write_bytes(old)
    toy.start()
    assert ledger.height() == 1


def test_a_block_is_verified_with_the_key_alone(toy: Toy, ledger: EmbeddedLedger) -> None:
    """What a third party does: header, signature, leaf, root."""
    put(ledger, "a", "1")
    store = Store(toy.folder / "ledger.sqlite3")
    with store.view() as view:
        block = view.block(1)
        ((_, _, validity, _, envelope),) = view.transactions(1)
    store.close()
    assert block is not None
    key = (toy.folder / "ledger.pub").read_text().strip()
    assert blocks.verifies(key, block.signature.hex(), b"consent-gateway block\x00" + block.header)
    root = root_of([leaf_hash(validity.encode() + b"\n" + envelope)])
    assert json.loads(block.header)["transactions"] == root.hex()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(max_codepoint=127)), inner),
    )
)
def test_the_two_canonical_forms_are_one(value: object) -> None:
    try:
        expected = contract_canonical.dumps(value)
    except Refused:
        with pytest.raises(InvalidInput):
            blocks.canonical(value)
        return
    assert blocks.canonical(value) == expected


def test_folder_without_ledger_is_said(tmp_path: Path) -> None:
    with pytest.raises(LedgerError):
        LedgerProcess(tmp_path, run=run)
