"""Mutants: the real keyholder, contract or ledger with one rule taken out at run time, and a story each.

On the honest product the story breaks no promise; with the mutant in its place it does, and the check must
name the rule. `patch(monkeypatch, workshop)` breaks, `story(workshop)` plays.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

import gateway.keyholder.opening as opening
import gateway.keyholder.reading as reading
import ledger.contract.deliver as deliver
import ledger.contract.release as release
import ledger.embedded.commit as commit
from gateway.drills.rig import fhir_consent, new_id
from gateway.drills.worker import PART, Child
from gateway.keyholder.envelope import PartWrapper, open_sealed_output
from gateway.keyholder.opening import Opener
from gateway.keyholder.parts import Parts
from gateway.keyholder.reading import Look
from gateway.keyholder.store import Opening, Store
from ledger.channels import HOME
from ledger.client import Proof, Reading
from ledger.contract.consents import compile_consent
from ledger.embedded.blocks import ORG
from ledger.embedded.server import LedgerProcess
from tests.drills.workshop import Workshop

Patch = Callable[[pytest.MonkeyPatch, Workshop], None]
Story = Callable[[Workshop], None]


@dataclass(frozen=True)
class Mutant:
    name: str
    caught_by: str
    patch: Patch
    story: Story


# Stories


def revoked_between_two_chunks(shop: Workshop) -> None:
    shop.begin()
    child = shop.release()
    first = shop.take(child)
    shop.revoke_on_ledger()
    shop.later()
    shop.take(child, after=first)


def two_readings(shop: Workshop) -> None:
    shop.begin()
    child = shop.release()
    first = shop.take(child)
    shop.later()
    shop.grant(shop.patient(granted=False))
    shop.take(child, after=first)


def one_chunk(shop: Workshop) -> None:
    shop.begin()
    shop.take(shop.release())


def revoked(shop: Workshop) -> None:
    shop.begin()
    shop.revoke_on_ledger()


def released_after_a_revocation(shop: Workshop) -> None:
    shop.begin()
    shop.revoke_on_ledger()
    shop.later()
    shop.release()


def revoked_between_prepare_and_send(shop: Workshop) -> None:
    shop.begin()
    shop.hooked.before_send = shop.revoke_on_ledger
    shop.release()


def revoked_before_deliver(shop: Workshop) -> None:
    shop.begin()
    child = shop.release()
    shop.take(child)
    digest, _ = shop.output(child)
    shop.revoke_on_ledger()
    shop.deliver(child, digest)


def revoked_after_deliver(shop: Workshop) -> None:
    shop.begin()
    child = shop.release()
    shop.take(child)
    digest, sealed = shop.output(child)
    assert shop.deliver(child, digest) == [digest]
    assert shop.read(digest, sealed)
    shop.revoke_on_ledger()
    shop.later()
    shop.read(digest, sealed)


def read_before_deliver(shop: Workshop) -> None:
    shop.begin()
    child = shop.release()
    shop.take(child)
    shop.read(*shop.output(child))


def records_after_deliver(shop: Workshop) -> None:
    shop.begin()
    child = shop.release()
    first = shop.take(child)
    digest, _ = shop.output(child)
    shop.deliver(child, digest)
    shop.later()
    shop.take(child, after=first)


def two_attempts(shop: Workshop) -> None:
    shop.begin()
    older = shop.release(1)
    shop.release(2)
    shop.later()
    shop.take(older)


def stopped_with_the_ledger_down(shop: Workshop) -> None:
    shop.begin()
    child = shop.release()
    first = shop.take(child)
    shop.stop()
    shop.process.close()
    shop.take(child, after=first)
    shop.process = LedgerProcess(shop.folder, clock=shop.clock)


def an_old_ledger_is_put_back(shop: Workshop) -> None:
    shop.begin()
    child = shop.release()
    copy = shop.copy_of_ledger()
    shop.grant(shop.patient(granted=False))  # only so that there are more blocks
    first = shop.take(child)
    shop.later(5)
    shop.restart_ledger(state=copy)
    shop.take(child, after=first)


def the_kept_consent_is_exchanged(shop: Workshop) -> None:
    shop.begin()
    child = shop.release()
    consent, patient = shop.alice.consent, shop.alice.id
    wider = compile_consent(fhir_consent(types=("Observation",)), consent=consent, patient=new_id())
    with shop.store.transaction() as db:
        db.execute("DELETE FROM consents WHERE consent = ?", (consent,))
        shop.store.add_opening(Opening(consent, patient, wider, bytes(32)))
    shop.take(child)


def the_consent_runs_out(shop: Workshop) -> None:
    end = datetime.fromtimestamp(shop.clock(), UTC) + timedelta(days=1)
    shop.begin(until=end.date().isoformat())
    child = shop.release()
    first = shop.take(child)
    shop.later(4 * 86_400)
    shop.take(child, after=first)


def somebody_elses_key(shop: Workshop) -> None:
    shop.begin()
    child = shop.release()
    shop.stranger = Child(shop.job, 1)
    shop.take(child)


# Patches


def cached_decision(patch: pytest.MonkeyPatch, shop: Workshop) -> None:
    opener = shop.service._at(HOME).opener
    patch.setattr(opener, "_delta", math.inf)
    patch.setattr(opener, "_parts", Parts(shop.store, opener.reader, seconds=math.inf, monotonic=shop.clock))


def skipped_nonce(patch: pytest.MonkeyPatch, shop: Workshop) -> None:
    patch.setattr(reading, "os", SimpleNamespace(urandom=bytes))


def replayed_answer(patch: pytest.MonkeyPatch, shop: Workshop) -> None:
    """The ledger repeats its first answer to a question, and nobody looks at the nonce."""
    asked: dict[Any, tuple[bytes, Proof]] = {}
    read, verify = shop.hooked.read, shop.trusted.check

    def replay(keys: Any, *, nonce: bytes) -> Proof:
        if tuple(keys) not in asked:
            asked[tuple(keys)] = nonce, read(keys, nonce=nonce)
        return asked[tuple(keys)][1]

    patch.setattr(shop.hooked, "read", replay)
    patch.setattr(
        shop.trusted,
        "check",
        lambda proof, *, keys, nonce: verify(proof, keys=keys, nonce=asked[tuple(keys)][0]),
    )
    patch.setattr(shop, "trusted", type(shop.trusted).from_folder(shop.folder))  # the check's own is honest


def stale_database(patch: pytest.MonkeyPatch, shop: Workshop) -> None:
    """What the ledger said once is kept in a table of ours and believed ever after."""
    table: dict[str, bytes | None] = {}

    def from_table(keys: Any, *, nonce: bytes) -> Proof:
        missing = [key for key in keys if table.get(key) is None]
        table.update(zip(missing, shop.hooked.evaluate(missing), strict=True))
        return Proof("embedded", ())

    def believe(proof: Proof, *, keys: Any, nonce: bytes) -> list[Reading]:
        return [Reading(ORG, 10**6, {key: table[key] for key in keys})]

    patch.setattr(shop.hooked, "read", from_table)
    patch.setattr(shop.trusted, "check", believe)
    patch.setattr(shop, "trusted", type(shop.trusted).from_folder(shop.folder))


def unraised_mark(patch: pytest.MonkeyPatch, shop: Workshop) -> None:
    run = shop.process._run

    class NoPolicy:
        def __init__(self, state: Any) -> None:
            self._state = state

        def __getattr__(self, name: str) -> Any:
            return getattr(self._state, name)

        def require(self, *_: Any) -> None:
            return None

    patch.setattr(
        shop.process,
        "_run",
        lambda state, tx: run(NoPolicy(state) if tx.name == "RevokeConsent" else state, tx),
    )


def release_ignores_marks(patch: pytest.MonkeyPatch, shop: Workshop) -> None:
    patch.setattr(release, "in_force_now", lambda state, consents, *_: dict.fromkeys(consents, True))


def deliver_without_recheck(patch: pytest.MonkeyPatch, shop: Workshop) -> None:
    patch.setattr(deliver, "in_force_now", lambda state, consents, *_: dict.fromkeys(consents, True))


def reads_are_not_compared(patch: pytest.MonkeyPatch, shop: Workshop) -> None:
    patch.setattr(commit, "judge", lambda view, transaction: "VALID")


def acknowledged_before_durable(patch: pytest.MonkeyPatch, shop: Workshop) -> None:
    """The ledger says VALID when it has heard of a transaction, and a power cut takes it away."""
    patch.setattr(LedgerProcess, "_send", lambda self, params: {})
    patch.setattr(LedgerProcess, "_outcome", lambda self, params: {"block": 1, "validity": "VALID"})


def result_opened_after_revoke(patch: pytest.MonkeyPatch, shop: Workshop) -> None:
    decide = Opener._decide_again
    patch.setattr(
        Opener,
        "_decide_again",
        lambda self, claim, *args: {} if claim.ground == "output" else decide(self, claim, *args),
    )


def result_without_deliver(patch: pytest.MonkeyPatch, shop: Workshop) -> None:
    def open_output(*, job: str, digest: str, sealed: bytes) -> bytes:
        return open_sealed_output(shop.store.output_key, sealed, job=job, attempt=1, subjects=[shop.subject])

    patch.setattr(shop.service, "open_output", open_output)


def open_after_deliver(patch: pytest.MonkeyPatch, shop: Workshop) -> None:
    patch.setattr(
        Opener,
        "_check_door",
        lambda self, ground, claim, look, now: (
            self._check_release(claim, look) if claim.ground == "release" else look
        ),
    )


def older_attempt(patch: pytest.MonkeyPatch, shop: Workshop) -> None:
    shown = Look.shown
    patch.setattr(Look, "shown", lambda self, key: [] if key == f"release/{shop.job}/2" else shown(self, key))


def deny_list_ignored(patch: pytest.MonkeyPatch, shop: Workshop) -> None:
    patch.setattr(Store, "is_denied", lambda self, consents: False)


def heights_forgotten(patch: pytest.MonkeyPatch, shop: Workshop) -> None:
    patch.setattr(Store, "raise_heights", lambda self, heights, channel: None)


def commitment_unchecked(patch: pytest.MonkeyPatch, shop: Workshop) -> None:
    class Whatever:
        def __ne__(self, other: object) -> bool:
            return False

    patch.setattr(opening, "committed", lambda *_: Whatever())


def expired_accepted(patch: pytest.MonkeyPatch, shop: Workshop) -> None:
    began, standing, decide = int(shop.clock()), reading.ledger_standing, opening.decide
    patch.setattr(reading, "ledger_standing", lambda value, marks, at: standing(value, marks, began))
    patch.setattr(opening, "decide", lambda consents, request, *, at: decide(consents, request, at=began))


def key_to_a_stranger(patch: pytest.MonkeyPatch, shop: Workshop) -> None:
    def wrapper(self: Opener, ground: Any, public_key: bytes) -> PartWrapper:
        assert shop.stranger is not None
        return PartWrapper(bytes.fromhex(shop.stranger.public), job=ground.job, attempt=1, part=PART)

    patch.setattr(Opener, "_wrapper", wrapper)


def nothing_logged(patch: pytest.MonkeyPatch, shop: Workshop) -> None:
    patch.setattr(opening, "append", lambda *_, **__: None)


def _restarted(patch: Patch) -> Patch:
    """For what the ledger's process binds when it starts."""

    def both(monkeypatch: pytest.MonkeyPatch, shop: Workshop) -> None:
        story = shop.begin

        def begin(**consent: Any) -> None:
            story(**consent)
            patch(monkeypatch, shop)
            shop.restart_ledger()

        monkeypatch.setattr(shop, "begin", begin)

    return both


MUTANTS = [
    Mutant(
        "cached decision",
        "key_after_revocation",
        cached_decision,
        revoked_between_two_chunks,
    ),
    Mutant(
        "skipped nonce",
        "nonce_reused",
        skipped_nonce,
        two_readings,
    ),
    Mutant(
        "nonce of an answer unchecked",
        "proof_does_not_hold",
        replayed_answer,
        revoked_between_two_chunks,
    ),
    Mutant(
        "stale database",
        "proof_does_not_hold",
        stale_database,
        revoked_between_two_chunks,
    ),
    Mutant(
        "un-raised mark",
        "mark_not_raised",
        unraised_mark,
        revoked,
    ),
    Mutant(
        "release ignores marks",
        "release_after_revocation",
        release_ignores_marks,
        released_after_a_revocation,
    ),
    Mutant(
        "reads are not compared",
        "release_after_revocation",
        reads_are_not_compared,
        revoked_between_prepare_and_send,
    ),
    Mutant(
        "deliver without re-check",
        "deliver_after_revocation",
        deliver_without_recheck,
        revoked_before_deliver,
    ),
    Mutant(
        "acknowledged before durable",
        "revocation_lost",
        _restarted(acknowledged_before_durable),
        revoked,
    ),
    Mutant(
        "result opened after revoke",
        "result_after_revocation",
        result_opened_after_revoke,
        revoked_after_deliver,
    ),
    Mutant(
        "result without deliver",
        "result_without_deliver",
        result_without_deliver,
        read_before_deliver,
    ),
    Mutant(
        "records open after deliver",
        "key_after_delivery",
        open_after_deliver,
        records_after_deliver,
    ),
    Mutant(
        "release of an older attempt",
        "attempt_superseded",
        older_attempt,
        two_attempts,
    ),
    Mutant(
        "deny list ignored",
        "key_after_stop",
        deny_list_ignored,
        stopped_with_the_ledger_down,
    ),
    Mutant(
        "heights not remembered",
        "height_went_back",
        heights_forgotten,
        an_old_ledger_is_put_back,
    ),
    Mutant(
        "commitment unchecked",
        "commitment_differs",
        commitment_unchecked,
        the_kept_consent_is_exchanged,
    ),
    Mutant(
        "expired accepted",
        "reading_not_in_force",
        expired_accepted,
        the_consent_runs_out,
    ),
    Mutant(
        "key to an unnamed public key",
        "key_to_unnamed_public_key",
        key_to_a_stranger,
        somebody_elses_key,
    ),
    Mutant(
        "opening not logged",
        "key_not_logged",
        nothing_logged,
        one_chunk,
    ),
]
