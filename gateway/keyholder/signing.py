"""Whether the patient said yes herself: drafts to sign, the passkeys that sign, and what they signed.

Neither the web process nor the relay is believed here: the challenge is our own commitment, and the passkey
is one that we keep. docs/adr/0011-the-patient-signs.md says why, and what remains.
"""

import dataclasses
import hmac
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from gateway.keyholder.envelope import new_key, seal, unseal
from gateway.keyholder.store import Opening, Store
from ledger.contract import canonical
from ledger.contract.consents import commitment, compile_consent
from ledger.contract.state import Json
from ledger.errors import AccessDenied, RefusedTransition
from ledger.rpc import from_b64, to_b64
from ledger.webauthn import (
    Assertion,
    SignatureRefused,
    check_assertion,
    check_public_key,
    passkey_challenge,
)

DRAFT_SECONDS = 7 * 86_400
# After a clinic dropped a patient's passkeys: so long nobody says yes for her, and she can object.
QUIET_SECONDS = 86_400
MOST_PASSKEYS = 20


@dataclasses.dataclass(frozen=True)
class Passkey:
    """One passkey of a patient. It signs from `since` until it was `dropped` (seconds since 1970 UTC).

    `public_key` is a DER SubjectPublicKeyInfo; `how` is `first` or `vouched` (by one known already).
    """

    credential: str
    public_key: bytes
    since: int
    how: str
    dropped: int | None

    def signs(self, at: int) -> bool:
        """Whether it may sign now."""
        return self.since <= at and self.dropped is None

    def signed(self, at: int) -> bool:
        """Whether what it signed then counts."""
        return self.since <= at and (self.dropped is None or at <= self.dropped)


class Signing:
    """`origin` is where the pages are (`https://host`), the only site whose signatures count from now on."""

    def __init__(self, store: Store, *, origin: str, clock: Callable[[], float]) -> None:
        self._store, self._origin, self._clock = store, origin, clock

    # Passkeys

    def passkeys(self, patient: str) -> list[Passkey]:
        """Every passkey that was ever known of this patient, oldest first."""
        return [one for _, one in self._numbered(patient)]

    def _numbered(self, patient: str) -> list[tuple[int, Passkey]]:
        with self._store.transaction() as db:
            rows = db.execute(
                "SELECT id, passkey, dropped FROM passkeys WHERE patient = ? ORDER BY id", (patient,)
            ).fetchall()
        key = self._store.patient_key(patient) if rows else b""
        return [
            (id, _passkey(unseal(key, sealed, _aad(patient, id)), dropped)) for id, sealed, dropped in rows
        ]

    def enrol_passkey(
        self, *, patient: str, credential: str, public_key: bytes, voucher: Assertion | None = None
    ) -> Json:
        """Know a passkey: the first on trust, every other by a signature of one that signs (`voucher`).

        The answer says from when it signs. Harmless to repeat. Raises SignatureRefused,
        RefusedTransition (`patient_unknown`, `voucher_missing`, `passkey_differs`, `passkeys_too_many`).
        """
        with self._store.transaction() as db:
            passkey, is_new = admit(
                self.passkeys(patient),
                Passkey(credential, public_key, int(self._clock()), "first", None),
                whose=patient,
                voucher=voucher,
                origin=self._origin,
            )
            if is_new:
                self._add(db, patient, passkey)
        return {"since": passkey.since}

    def _add(self, db: sqlite3.Connection, patient: str, passkey: Passkey) -> None:
        (id,) = db.execute("SELECT COALESCE(MAX(id), 0) + 1 FROM passkeys").fetchone()
        body = orjson.dumps(
            {
                "credential": passkey.credential,
                "how": passkey.how,
                "public_key_b64": to_b64(passkey.public_key),
                "since": passkey.since,
            }
        )
        sealed = seal(self._store.patient_key(patient), body, _aad(patient, id))
        db.execute("INSERT INTO passkeys VALUES (?, ?, ?, NULL)", (id, patient, sealed))

    def drop_passkeys(self, *, patient: str) -> Json:
        """The clinic proofed the patient again: none of her passkeys signs from now on, and for
        QUIET_SECONDS nothing says yes for her. What was signed stays signed. Harmless to repeat."""
        now = int(self._clock())
        with self._store.transaction() as db:
            db.execute(
                "UPDATE passkeys SET dropped = ? WHERE patient = ? AND dropped IS NULL", (now, patient)
            )
        return {"until": self._quiet_until(patient)}

    def drop_passkey(self, *, patient: str, credential: str) -> None:
        """One of several signs no more. Harmless to repeat, and for a passkey that was never known.

        Raises RefusedTransition (`passkey_last`): without the clinic, one that signs has to be left.
        """
        now = int(self._clock())
        with self._store.transaction() as db:
            known = self._numbered(patient)
            if is_last([one for _, one in known], credential, at=now):
                raise RefusedTransition(
                    "This is the only passkey that signs. Add another one first.", code="passkey_last"
                )
            for number, one in known:
                if one.credential == credential and one.dropped is None:
                    db.execute("UPDATE passkeys SET dropped = ? WHERE id = ?", (now, number))

    def _quiet_until(self, patient: str) -> int:
        """Until when nobody says yes, once no passkey signs any more."""
        known = self.passkeys(patient)
        if any(one.signs(int(self._clock())) for one in known):
            return 0
        return quiet_until(known)

    def signers(self, patient: str) -> Json:
        """Who may sign for this patient now, and until when nobody may (0: now)."""
        return signers_of(self.passkeys(patient), at=int(self._clock()), quiet=self._quiet_until(patient))

    # Drafts

    def draft(self, *, consent: str, patient: str, fhir: Json) -> Json:
        """The commitment that the patient is to sign. A repeat with the same words is the same draft.

        Raises Refused (a consent that cannot be read), RefusedTransition (`patient_unknown`,
        `consent_differs`).
        """
        now = int(self._clock())
        key = self._store.patient_key(patient)
        kept = self._draft(consent)
        if kept is None:
            compiled = compile_consent(fhir, consent=consent, patient=new_key().hex())
            body = orjson.dumps({"canonical": compiled, "key": new_key().hex()})
            sealed = seal(key, body, _draft_aad(patient, consent))
            with self._store.transaction() as db:
                db.execute("DELETE FROM drafts WHERE at < ?", (now - DRAFT_SECONDS,))
                db.execute(
                    "INSERT INTO drafts VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    (consent, patient, sealed, now),
                )
            kept = self._draft(consent)
        if kept is None or not says(kept, patient, fhir):
            raise differs()
        return {"commitment": committed(kept), **self.signers(patient)}

    def _draft(self, consent: str) -> Opening | None:
        with self._store.transaction() as db:
            row = db.execute("SELECT patient, draft FROM drafts WHERE consent = ?", (consent,)).fetchone()
        if row is None:
            return None
        patient, sealed = row
        body = orjson.loads(unseal(self._store.patient_key(patient), sealed, _draft_aad(patient, consent)))
        return Opening(consent, patient, body["canonical"], bytes.fromhex(body["key"]))

    # What a grant rests on

    def opening_of(
        self, *, consent: str, patient: str, fhir: Json, signature: object = None, required: bool = False
    ) -> Opening:
        """The opening to keep of a consent that nothing was kept of: with her signature, or without where
        that is enough. Raises Refused, SignatureRefused, RefusedTransition (`signature_missing`,
        `signing_quiet`, `draft_unknown`, `consent_differs`, `patient_unknown`)."""
        now = int(self._clock())
        if signature is None:
            if required or any(one.dropped is None for one in self.passkeys(patient)):
                raise SignatureRefused(
                    "This choice needs the patient's own signature.", code="signature_missing"
                )
            if self._quiet_until(patient) > now:
                raise SignatureRefused(
                    "The passkeys were reset. A new yes can be given a day later.", code="signing_quiet"
                )
            compiled = compile_consent(fhir, consent=consent, patient=new_key().hex())
            return Opening(consent, patient, compiled, new_key())
        draft = self._draft(consent)
        if draft is None:
            raise SignatureRefused("What was signed is not known here. Ask again.", code="draft_unknown")
        if not says(draft, patient, fhir):
            raise differs()
        assertion = Assertion.from_json(signature)
        self._check(assertion, patient, bytes.fromhex(committed(draft)), at=now)
        kept = {**assertion.to_json(), "at": now, "origin": self._origin}
        return dataclasses.replace(draft, signature=kept, signature_required=required)

    def check_kept(self, opening: Opening) -> None:
        """That what was kept of her signature still shows that she signed this very consent.

        A consent that was given without one, where none was required, passes. Raises AccessDenied.
        """
        try:
            if opening.signature is None:
                if opening.signature_required:
                    raise SignatureRefused("This choice needs a signature.", code="signature_missing")
                return
            kept = dict(opening.signature)
            at, origin = kept.pop("at"), kept.pop("origin")
            challenge = bytes.fromhex(committed(opening))
            self._check(Assertion.from_json(kept), opening.patient, challenge, at=at, origin=origin)
        except SignatureRefused as error:
            raise AccessDenied("The patient's signature does not hold.", code=error.code) from None

    def holds(self, opening: Opening) -> bool:
        try:
            self.check_kept(opening)
        except AccessDenied:
            return False
        return True

    def shown(self, opening: Opening) -> Json | None:
        """The signature with the key that checks it, for whoever verifies it without us; None: unsigned."""
        if opening.signature is None:
            return None
        passkey = named(self.passkeys(opening.patient), opening.signature["credential"])
        return {**opening.signature, "public_key_b64": to_b64(passkey.public_key)}

    def check_voucher(self, voucher: Assertion, patient: str, challenge: bytes) -> None:
        """That a passkey of the patient's that signs now signed `challenge`. Raises SignatureRefused."""
        self._check(voucher, patient, challenge, at=int(self._clock()))

    def _check(
        self, assertion: Assertion, patient: str, challenge: bytes, *, at: int, origin: str | None = None
    ) -> None:
        """`origin`: where it was signed, when it was; None: it is signed now."""
        here, kept = (self._origin, False) if origin is None else (origin, True)
        check_by(self.passkeys(patient), assertion, challenge, at=at, origin=here, kept=kept)


# Passkeys of one person, whoever keeps them


def admit(
    known: Sequence[Passkey], new: Passkey, *, whose: str, voucher: Assertion | None, origin: str
) -> tuple[Passkey, bool]:
    """A passkey as it is known, or as it is to be known and that it is new. `new.since` is now.

    The first is taken on trust, after the last one was dropped for a day later; every other one by a
    signature of one that signs (`voucher`), and it signs at once. Raises SignatureRefused, RefusedTransition
    (`voucher_missing`, `passkey_differs`, `passkeys_too_many`).
    """
    check_public_key(new.public_key)
    for one in known:
        if one.credential == new.credential:
            if one.public_key != new.public_key or one.dropped is not None:
                raise RefusedTransition("This passkey was known as another.", code="passkey_differs")
            return one, False
    if len(known) >= MOST_PASSKEYS:
        raise RefusedTransition("There are too many passkeys.", code="passkeys_too_many")
    if all(one.dropped is not None for one in known):
        return dataclasses.replace(new, since=max(new.since, quiet_until(known))), True
    if voucher is None:
        raise RefusedTransition(
            "A passkey that signs already has to vouch for another.", code="voucher_missing"
        )
    challenge = passkey_challenge(patient=whose, credential=new.credential, public_key=new.public_key)
    check_by(known, voucher, challenge, at=new.since, origin=origin)
    return dataclasses.replace(new, how="vouched"), True


def quiet_until(known: Sequence[Passkey]) -> int:
    """From when a first passkey signs, once the last one was dropped."""
    return max((one.dropped + QUIET_SECONDS for one in known if one.dropped is not None), default=0)


def signers_of(known: Sequence[Passkey], *, at: int, quiet: int) -> Json:
    """Which of these are known and which sign now, and until when none may (0: none is kept from it)."""
    return {
        "known": [one.credential for one in known if one.dropped is None],
        "signing": [one.credential for one in known if one.signs(at)],
        "quiet_until": quiet if quiet > at else 0,
    }


def is_last(known: Sequence[Passkey], credential: str, *, at: int) -> bool:
    """Whether none that signs is left once this one is dropped; one that is not live is never the last."""
    live = [one for one in known if one.dropped is None]
    others = [one for one in live if one.credential != credential]
    return len(others) < len(live) and not any(one.signs(at) for one in others)


def check_by(
    known: Sequence[Passkey],
    assertion: Assertion,
    challenge: bytes,
    *,
    at: int,
    origin: str,
    kept: bool = False,
) -> None:
    """That one of these passkeys signed `challenge` on a page of `origin`, and may sign now (`at`).

    `kept`: it was signed then and taken; a passkey that was dropped since counts. Raises SignatureRefused.
    """
    passkey = named(known, assertion.credential)
    if not (passkey.signed(at) if kept else passkey.signs(at)):
        raise SignatureRefused("This passkey does not sign at this time.", code="passkey_not_signing")
    check_assertion(
        assertion,
        credential=passkey.credential,
        public_key=passkey.public_key,
        challenge=challenge,
        origin=origin,
    )


def named(known: Sequence[Passkey], credential: str) -> Passkey:
    for one in known:
        if hmac.compare_digest(one.credential, credential):
            return one
    raise SignatureRefused("This passkey is not known.", code="passkey_unknown")


def committed(opening: Opening) -> str:
    """The commitment of an opening, in hex: what is on the ledger, and what is signed."""
    return commitment(opening.key, canonical.dumps(opening.canonical))


def says(kept: Opening, patient: str, fhir: Json) -> bool:
    return kept.patient == patient and kept.canonical == compile_consent(
        fhir, consent=kept.consent, patient=kept.canonical["patient"]
    )


def differs() -> RefusedTransition:
    return RefusedTransition(
        "This consent was kept before, and it said something else.", code="consent_differs"
    )


def _passkey(body: bytes, dropped: int | None) -> Passkey:
    value: dict[str, Any] = orjson.loads(body)
    return Passkey(
        value["credential"], from_b64(value["public_key_b64"]), value["since"], value["how"], dropped
    )


def _aad(patient: str, id: int) -> bytes:
    return b"passkey" + patient.encode() + b"/%d" % id


def _draft_aad(patient: str, consent: str) -> bytes:
    return b"draft" + patient.encode() + b"/" + consent.encode()
