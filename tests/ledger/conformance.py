"""What every ledger must do, whatever is behind the seam: one suite, written against ledger.client alone.

Subclass `Conformance` and give it a `network` (one is shared by the whole class: each test uses new ids).
"""

import hashlib
import random
import secrets
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest

from ledger.audit import merkle
from ledger.client import Envelope, Event, Ledger, Outcome, Trust
from ledger.contract import canonical
from ledger.contract.access import recorded
from ledger.contract.consents import AI_MODEL, commitment, compile_consent
from ledger.contract.errors import Refused
from ledger.errors import OutcomeUnknown, ProofError

SECONDS = 30.0
Json = dict[str, Any]


class Network(Protocol):
    """A running ledger with the real contract, whose organisations are registered."""

    orgs: Sequence[str]  # MSP ids, sorted; the first is ours
    trust: Trust
    races: int  # how many races of revoke against release are run
    stop_delay: float  # seconds that the stop of a race waits at most, so that either side wins sometimes

    def connect(self, identity: str) -> Ledger: ...


def new_id() -> str:
    return secrets.token_hex(32)


MODEL = hashlib.sha256(b"a model").hexdigest()
REQUEST: Json = {
    "action": "use",
    "model": MODEL,
    "purpose": "HRESCH",
    "recipient": "Organization/helix",
    "resources": [{"codes": None, "type": "Observation"}],
    "use": [],
    "version": 1,
}
FHIR: Json = {
    "resourceType": "Consent",
    "status": "active",
    "scope": {"coding": [{"code": "research"}]},
    "category": [{"coding": [{"code": "INFA"}]}],
    "dateTime": "2024-01-01T00:00:00Z",
    "provision": {
        "type": "permit",
        "extension": [{"url": AI_MODEL, "valueString": MODEL}],
        "actor": [{"role": {"coding": [{"code": "IRCP"}]}, "reference": {"reference": "Organization/helix"}}],
        "action": [{"coding": [{"code": "use"}]}],
        "securityLabel": [{"code": "N"}],
        "purpose": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HRESCH"}],
        "class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Observation"}],
    },
}


@dataclass
class Given:
    """One consent and its opening."""

    id: str = field(default_factory=new_id)
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    def __post_init__(self) -> None:
        self.opening: Json = {
            "consent": compile_consent(FHIR, consent=self.id, patient=new_id()),
            "key": self.key.hex(),
        }
        self.commitment = commitment(self.key, canonical.dumps(self.opening["consent"]))
        self.args: Json = {"consent": self.id, "commitment": self.commitment, "expires": None}
        self.transient = {"openings": canonical.dumps([self.opening])}


def release_args(*given: Given, job: str | None = None) -> Json:
    return {
        "job": job or new_id(),
        "attempt": 1,
        "model": MODEL,
        "request": canonical.digest(REQUEST),
        "nonce": new_id(),
        "parts": [{"part": 0, "key": new_id(), "consents": [one.id for one in given]}],
    }


def with_openings(*given: Given) -> dict[str, bytes]:
    return {
        "request": canonical.dumps(REQUEST),
        "openings": canonical.dumps([one.opening for one in given]),
    }


def checkpoint_args(origin: str, leaves: Sequence[bytes], previous: int = 0) -> Json:
    """A log's checkpoint at its whole size, with the proof that it extends that of `previous` rows."""

    def node(level: int, index: int) -> bytes:
        return merkle.root_of(leaves[index << level : (index + 1) << level])

    proof = merkle.consistency_proof(previous, len(leaves), node) if previous else []
    return {
        "origin": origin,
        "previous": previous,
        "proof": [one.hex() for one in proof],
        "root": merkle.root_of(leaves).hex(),
        "size": len(leaves),
    }


def commit(ledger: Ledger, envelope: Envelope) -> Outcome:
    ledger.send(envelope)
    return ledger.outcome(envelope.tx_id, timeout=SECONDS)


def submit(ledger: Ledger, name: str, args: Json, transient: dict[str, bytes] | None = None) -> Outcome:
    return commit(ledger, ledger.prepare(name, args, transient))


def event_of(ledger: Ledger, outcome: Outcome) -> Event:
    """The event of a transaction, heard from the block before it on."""
    for event in ledger.events((outcome.block - 1, 1 << 30), wait=SECONDS):
        if event.tx_id == outcome.tx_id:
            return event
    raise AssertionError("the event never came")


class Conformance:
    """The suite."""

    @pytest.fixture(scope="class")
    @classmethod
    def keyholder(cls, network: Network) -> Any:
        ledger = network.connect("keyholder")
        args = {"model": MODEL, "card": new_id(), "provider": "Helix AI", "state": "approved"}
        assert submit(network.connect("admin"), "RegisterModel", args).is_valid
        yield ledger
        ledger.close()

    @pytest.fixture(scope="class")
    @classmethod
    def gateway(cls, network: Network) -> Any:
        ledger = network.connect("gateway")
        yield ledger
        ledger.close()

    @pytest.fixture
    def given(self, keyholder: Ledger) -> Given:
        """A consent in force."""
        given = Given()
        assert submit(keyholder, "GrantConsent", given.args, given.transient).is_valid
        return given

    # State and events

    def test_a_grant_writes_these_bytes(self, network: Network, keyholder: Ledger, given: Given) -> None:
        marks = ",".join(f'"{org}"' for org in network.orgs)
        keys = [f"consent/{given.id}", *(f"revoked/{given.id}/{org}" for org in network.orgs)]
        assert keyholder.evaluate(keys) == [
            f'{{"commitment":"{given.commitment}","expires":null,"marks":[{marks}],"state":"active","version":1}}'.encode(),
            *[b'{"set":false}' for _ in network.orgs],
        ]

    def test_a_grant_has_this_event(self, keyholder: Ledger) -> None:
        given = Given()
        outcome = submit(keyholder, "GrantConsent", given.args, given.transient)
        event = event_of(keyholder, outcome)
        assert (event.name, event.payload, event.block) == (
            "ConsentGranted",
            {"consent": given.id},
            outcome.block,
        )

    def test_grants_together_write_these_bytes_and_have_this_event(
        self, network: Network, keyholder: Ledger, gateway: Ledger
    ) -> None:
        grants = sorted((Given() for _ in range(20)), key=lambda one: one.id)
        outcome = submit(
            keyholder,
            "GrantConsents",
            {"grants": [one.args for one in grants]},
            {"openings": canonical.dumps([one.opening for one in grants])},
        )
        assert outcome.is_valid
        event = event_of(keyholder, outcome)
        assert (event.name, event.payload) == ("ConsentsGranted", {"consents": [one.id for one in grants]})
        marks = ",".join(f'"{org}"' for org in network.orgs)
        for one in (grants[0], grants[-1]):
            keys = [f"consent/{one.id}", *(f"revoked/{one.id}/{org}" for org in network.orgs)]
            assert keyholder.evaluate(keys) == [
                f'{{"commitment":"{one.commitment}","expires":null,"marks":[{marks}],"state":"active","version":1}}'.encode(),
                *[b'{"set":false}' for _ in network.orgs],
            ]
        # Each is a consent of its own: one is stopped by one organisation, the others stay.
        assert submit(gateway, "RevokeConsent", {"consent": grants[0].id}).is_valid
        args = release_args(*grants[1:])
        assert keyholder.prepare("Release", args, with_openings(*grants[1:])).result["decision"] == "permit"
        args = release_args(grants[0])
        assert keyholder.prepare("Release", args, with_openings(grants[0])).result["decision"] == "deny"

    def test_a_release_permits_and_answers_so(self, keyholder: Ledger, given: Given) -> None:
        args = release_args(given)
        envelope = keyholder.prepare("Release", args, with_openings(given))
        assert envelope.result["decision"] == "permit"
        assert keyholder.evaluate([f"release/{args['job']}/1"]) == [None]
        assert commit(keyholder, envelope).is_valid
        (value,) = keyholder.evaluate([f"release/{args['job']}/1"])
        assert canonical.load_canonical(value or b"")["consents"] == [
            {"consent": given.id, "decision": "permit"}
        ]

    def test_a_whole_line_from_grant_to_delivery_to_stop(
        self, network: Network, keyholder: Ledger, gateway: Ledger, given: Given
    ) -> None:
        args = release_args(given)
        assert submit(keyholder, "Release", args, with_openings(given)).is_valid
        output = {"output": new_id(), "consents": [given.id]}
        delivery = {"job": args["job"], "attempt": 1, "outputs": [output]}
        delivered = submit(keyholder, "Deliver", delivery, with_openings(given))
        assert event_of(keyholder, delivered).payload["outputs"] == [output["output"]]
        stopped = submit(gateway, "RevokeConsent", {"consent": given.id})
        assert event_of(gateway, stopped).payload["consent"] == given.id
        envelope = keyholder.prepare("Release", release_args(given), with_openings(given))
        assert envelope.result["decision"] == "deny"
        assert commit(keyholder, envelope).is_valid  # a denial is evidence

    def test_events_are_ordered_and_begin_at_the_beginning(self, gateway: Ledger, given: Given) -> None:
        found = [(event.block, event.index) for event in gateway.events((-1, -1), wait=0.5)]
        assert found == sorted(set(found))
        assert found
        assert all(block < gateway.height() for block, _ in found)

    # Errors

    @pytest.mark.parametrize(
        ("identity", "name", "code"),
        [
            ("gateway", "GrantConsent", "role_not_allowed"),
            ("keyholder", "RegisterOrganisation", "role_not_allowed"),
            ("keyholder", "Nothing", "transaction_unknown"),
            ("gateway", "RevokeConsent", "invalid_arguments"),
        ],
    )
    def test_the_contracts_refusal_comes_through(
        self, network: Network, identity: str, name: str, code: str
    ) -> None:
        ledger = network.connect(identity)
        height = ledger.height()
        with pytest.raises(Refused) as refusal:
            ledger.prepare(name, {})
        assert refusal.value.code == code
        assert refusal.value.message
        assert ledger.height() == height
        ledger.close()

    def test_a_second_grant_of_one_id_is_refused(self, keyholder: Ledger, given: Given) -> None:
        with pytest.raises(Refused) as refusal:
            keyholder.prepare("GrantConsent", given.args, given.transient)
        assert refusal.value.code == "consent_exists"

    def test_a_stop_of_an_unknown_consent_is_refused(self, gateway: Ledger) -> None:
        with pytest.raises(Refused) as refusal:
            gateway.prepare("RevokeConsent", {"consent": new_id()})
        assert refusal.value.code == "consent_unknown"

    def test_an_opening_that_does_not_fit_is_refused(self, keyholder: Ledger, given: Given) -> None:
        other = Given(id=given.id)
        with pytest.raises(Refused) as refusal:
            keyholder.prepare("Release", release_args(given), with_openings(other))
        assert refusal.value.code == "commitment_mismatch"

    def test_what_was_never_sent_is_unknown(self, keyholder: Ledger) -> None:
        given = Given()
        envelope = keyholder.prepare("GrantConsent", given.args, given.transient)
        with pytest.raises(OutcomeUnknown):
            keyholder.outcome(envelope.tx_id, timeout=0.5)
        assert commit(keyholder, envelope).is_valid

    # Envelopes

    def test_openings_are_not_in_the_envelope(self, keyholder: Ledger, given: Given) -> None:
        envelope = keyholder.prepare("Release", release_args(given), with_openings(given))
        for secret in (given.key.hex().encode(), given.key, given.opening["consent"]["patient"].encode()):
            assert secret not in envelope.data

    def test_an_envelope_sent_twice_counts_once(self, keyholder: Ledger) -> None:
        given = Given()
        envelope = keyholder.prepare("GrantConsent", given.args, given.transient)
        first = commit(keyholder, envelope)
        again = commit(keyholder, envelope)
        assert (first.validity, first.block) == (again.validity, again.block)
        heard = [e for e in keyholder.events((first.block - 1, 1 << 30), wait=1) if e.tx_id == envelope.tx_id]
        assert len(heard) == 1

    def test_of_two_grants_of_one_id_one_wins(self, keyholder: Ledger) -> None:
        given = Given()
        both = [keyholder.prepare("GrantConsent", given.args, given.transient) for _ in range(2)]
        for envelope in both:
            keyholder.send(envelope)
        outcomes = sorted(keyholder.outcome(one.tx_id, timeout=SECONDS).validity for one in both)
        # In one block of Fabric the first has set the keys' own policies, which the second was not judged by.
        assert outcomes in (["MVCC_READ_CONFLICT", "VALID"], ["ENDORSEMENT_POLICY_FAILURE", "VALID"])

    # Emergencies

    def test_an_emergency_is_recorded_by_one_and_completed_by_the_rest(
        self, network: Network, keyholder: Ledger
    ) -> None:
        access, digest, own = new_id(), new_id(), network.trust.own
        expires = int(time.time()) + 3600
        args = {"access": access, "digest": digest, "expires": expires}
        outcome = submit(keyholder, "EmergencyAccess", args)
        event = event_of(keyholder, outcome)
        assert (event.name, event.payload) == ("Accessed", {"access": access, "kind": "emergency"})
        keys = [f"emergency/{own}", f"access/{access}/{own}"]
        listed, completed = keyholder.evaluate(keys)
        (entry,) = recorded(listed).values()
        assert entry == {"access": access, "at": entry["at"], "digest": digest, "expires": expires}
        assert completed is None
        outcome = submit(keyholder, "CompleteEmergency", {"access": access})
        assert event_of(keyholder, outcome).name == "EmergencyCompleted"
        _, completed = keyholder.evaluate(keys)
        value = canonical.load_canonical(completed or b"")
        assert value == {"at": value["at"], "digest": digest, "expires": expires, "kind": "emergency"}
        for name, again in (("EmergencyAccess", args), ("CompleteEmergency", {"access": access})):
            with pytest.raises(Refused) as refusal:
                keyholder.prepare(name, again)
            assert refusal.value.code == "access_exists"
        # The next one leaves out what was completed.
        other = {**args, "access": new_id()}
        assert submit(keyholder, "EmergencyAccess", other).is_valid
        (listed,) = keyholder.evaluate(keys[:1])
        assert list(recorded(listed)) == [other["access"]]
        assert submit(keyholder, "CompleteEmergency", {"access": other["access"]}).is_valid

    def test_two_emergencies_at_once_are_both_recorded(self, network: Network, keyholder: Ledger) -> None:
        """They write one key: the later is told so and made again, as the keyholder does."""
        accesses = [new_id() for _ in range(4)]

        def record(access: str) -> None:
            args = {"access": access, "digest": new_id(), "expires": int(time.time()) + 3600}
            while not (outcome := submit(keyholder, "EmergencyAccess", args)).is_valid:
                assert outcome.validity == "MVCC_READ_CONFLICT"

        with ThreadPoolExecutor(len(accesses)) as pool:
            list(pool.map(record, accesses))
        (listed,) = keyholder.evaluate([f"emergency/{network.trust.own}"])
        assert set(accesses) <= set(recorded(listed))

    # Reads

    def test_a_read_of_our_own_organisation_is_one_witness(
        self, network: Network, keyholder: Ledger, given: Given
    ) -> None:
        keys, nonce = [f"consent/{given.id}"], secrets.token_bytes(32)
        proof = keyholder.read_own(keys, nonce=nonce)
        assert [answer.org for answer in proof.answers] == [network.trust.own]
        reading = network.trust.check_own(proof, keys=keys, nonce=nonce)
        assert (reading.org, list(reading.values.values())) == (network.trust.own, keyholder.evaluate(keys))
        with pytest.raises(ProofError):
            network.trust.check_own(proof, keys=keys, nonce=secrets.token_bytes(32))
        if network.trust.needed > 1:
            with pytest.raises(ProofError):
                network.trust.check(proof, keys=keys, nonce=nonce)

    def test_a_signed_read_holds_and_binds_its_nonce(
        self, network: Network, keyholder: Ledger, given: Given
    ) -> None:
        keys, nonce = [f"consent/{given.id}", f"consent/{new_id()}"], secrets.token_bytes(32)
        proof = keyholder.read(keys, nonce=nonce)
        readings = network.trust.check(proof, keys=keys, nonce=nonce)
        assert len({reading.org for reading in readings}) >= network.trust.needed
        for reading in readings:
            assert list(reading.values.values()) == keyholder.evaluate(keys)
            assert reading.height <= keyholder.height()
        for other_keys, other_nonce in ((keys, secrets.token_bytes(32)), (keys[:1], nonce)):
            with pytest.raises(ProofError):
                network.trust.check(proof, keys=other_keys, nonce=other_nonce)

    def test_an_acknowledged_write_is_read_at_once(
        self, network: Network, keyholder: Ledger, given: Given
    ) -> None:
        assert submit(keyholder, "RevokeConsent", {"consent": given.id}).is_valid
        keys, nonce = [f"revoked/{given.id}/{network.orgs[0]}"], secrets.token_bytes(32)
        readings = network.trust.check(keyholder.read(keys, nonce=nonce), keys=keys, nonce=nonce)
        ours = next(reading for reading in readings if reading.org == network.orgs[0])
        assert b'"set":true' in (ours.values[keys[0]] or b"")

    # The audit log's checkpoints

    def test_checkpoints_prove_that_the_log_only_grew(self, gateway: Ledger) -> None:
        origin, rows = f"log {new_id()}", [merkle.leaf_hash(b"row %d" % n) for n in range(7)]
        first, second = checkpoint_args(origin, rows[:3]), checkpoint_args(origin, rows, previous=3)
        assert submit(gateway, "Checkpoint", first).is_valid
        for lie in (
            {**second, "proof": [new_id() for _ in second["proof"]]},
            checkpoint_args(origin, [merkle.leaf_hash(b"rewritten"), *rows[1:]], previous=3),
        ):
            with pytest.raises(Refused) as refusal:
                gateway.prepare("Checkpoint", lie)
            assert refusal.value.code == "checkpoint_inconsistent"
        both = [gateway.prepare("Checkpoint", second) for _ in range(2)]
        for envelope in both:
            gateway.send(envelope)
        outcomes = sorted(gateway.outcome(one.tx_id, timeout=SECONDS).validity for one in both)
        assert outcomes == ["MVCC_READ_CONFLICT", "VALID"]
        (kept,) = gateway.evaluate([f"checkpoint/{origin}"])
        value = canonical.load_canonical(kept or b"")
        assert (value["size"], value["previous"]) == (7, {"root": first["root"], "size": 3})

    # The order of a stop and a door

    def test_a_stop_that_comes_first_undoes_a_prepared_release(
        self, keyholder: Ledger, gateway: Ledger, given: Given
    ) -> None:
        args = release_args(given)
        release = keyholder.prepare("Release", args, with_openings(given))
        assert release.result["decision"] == "permit"
        assert submit(gateway, "RevokeConsent", {"consent": given.id}).is_valid
        assert commit(keyholder, release).validity == "MVCC_READ_CONFLICT"
        assert keyholder.evaluate([f"release/{args['job']}/1"]) == [None]

    def test_a_stop_that_comes_first_undoes_a_prepared_delivery(
        self, keyholder: Ledger, gateway: Ledger, given: Given
    ) -> None:
        args = release_args(given)
        assert submit(keyholder, "Release", args, with_openings(given)).is_valid
        outputs = [{"output": new_id(), "consents": [given.id]}]
        delivery = {"job": args["job"], "attempt": 1, "outputs": outputs}
        prepared = keyholder.prepare("Deliver", delivery, with_openings(given))
        assert submit(gateway, "RevokeConsent", {"consent": given.id}).is_valid
        assert commit(keyholder, prepared).validity == "MVCC_READ_CONFLICT"
        again = keyholder.prepare("Deliver", delivery, with_openings(given))
        assert (again.result["outputs"], again.result["withheld"]) == ([], [given.id])

    def test_a_release_never_makes_a_stop_fail(
        self, keyholder: Ledger, gateway: Ledger, given: Given
    ) -> None:
        stop = gateway.prepare("RevokeConsent", {"consent": given.id})
        assert submit(keyholder, "Release", release_args(given), with_openings(given)).is_valid
        assert commit(gateway, stop).is_valid

    def test_no_race_lets_a_permitted_release_in_after_a_stop(
        self, network: Network, keyholder: Ledger, gateway: Ledger
    ) -> None:
        """Each race: one thread stops a consent while another releases it, at random moments."""
        consents = [Given() for _ in range(network.races)]
        before = keyholder.height() - 1

        def race(given: Given) -> tuple[str, bool]:
            began = time.monotonic()
            assert submit(keyholder, "GrantConsent", given.args, given.transient).is_valid
            spread = time.monotonic() - began  # how long a transaction takes here, so that they do meet
            together = threading.Barrier(2)
            job = new_id()

            def stop() -> bool:
                together.wait(SECONDS)
                time.sleep(random.uniform(0, network.stop_delay))
                return submit(gateway, "RevokeConsent", {"consent": given.id}).is_valid

            def release() -> None:
                together.wait(SECONDS)
                time.sleep(random.uniform(0, spread))
                submit(keyholder, "Release", release_args(given, job=job), with_openings(given))

            with ThreadPoolExecutor(2) as pool:
                stopped, released = pool.submit(stop), pool.submit(release)
                released.result()
                return job, stopped.result()

        with ThreadPoolExecutor(4) as pool:
            raced = list(pool.map(race, consents))
        assert all(stopped for _, stopped in raced)

        stops: dict[str, tuple[int, int]] = {}
        permits: dict[str, tuple[int, int]] = {}
        for event in gateway.events((before, 1 << 30), wait=1):
            if event.name == "ConsentRevoked":
                stops[event.payload["consent"]] = (event.block, event.index)
            if event.name == "Released" and event.payload["decision"] == "permit":
                permits[event.payload["job"]] = (event.block, event.index)
        outcomes = {
            job: permits[job] < stops[given.id] if job in permits else None
            for given, (job, _) in zip(consents, raced, strict=True)
        }
        assert False not in outcomes.values()
        # The race was one: some releases came before the stop, and some not at all.
        assert True in outcomes.values()
        assert None in outcomes.values()
