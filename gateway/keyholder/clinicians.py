"""Whether a clinician begins an emergency herself: her passkeys, and what they signed.

The web process says in whose name it asks. Where that person signed, the challenge is the digest that goes
on the ledger, so it is not believed for that: docs/adr/0014-break-glass.md. A clinician is known here by her
pseudonym in the audit log, which names no person.
"""

from collections.abc import Callable

from gateway.keyholder.signing import Passkey, admit, check_by, is_last, named, quiet_until, signers_of
from gateway.keyholder.store import Store
from ledger.contract.state import Json
from ledger.errors import AccessDenied, RefusedTransition
from ledger.rpc import to_b64
from ledger.webauthn import Assertion, SignatureRefused

PASSKEY, SESSION = "passkey", "session"  # `confirmed` of an emergency's details


class Clinicians:
    """`origin` is where the pages are; `required`: no emergency begins or opens without a signature."""

    def __init__(self, store: Store, *, origin: str, clock: Callable[[], int], required: bool) -> None:
        self._store, self._origin, self._clock, self._required = store, origin, clock, required

    # Passkeys

    def passkeys(self, clinician: str) -> list[Passkey]:
        """Every passkey that was ever known of her, oldest first."""
        with self._store.transaction() as db:
            rows = db.execute(
                "SELECT credential, public_key, since, how, dropped FROM clinicians"
                " WHERE clinician = ? ORDER BY id",
                (clinician,),
            ).fetchall()
        return [Passkey(*row) for row in rows]

    def signers(self, clinician: str) -> Json:
        """Which passkeys are known and which of them sign now, and from when a first one would (0: now)."""
        known = self.passkeys(clinician)
        quiet = 0 if any(one.dropped is None for one in known) else quiet_until(known)
        return signers_of(known, at=self._clock(), quiet=quiet)

    def enrol(
        self, *, clinician: str, credential: str, public_key: bytes, voucher: Assertion | None = None
    ) -> Json:
        """Know a passkey: the first on trust, every other by a signature of one that signs (`voucher`).

        After the last one was dropped a first one signs a day later. The answer says from when. Harmless to
        repeat. Raises SignatureRefused, RefusedTransition (`voucher_missing`, `passkey_differs`,
        `passkeys_too_many`).
        """
        with self._store.transaction() as db:
            passkey, is_new = admit(
                self.passkeys(clinician),
                Passkey(credential, public_key, self._clock(), "first", None),
                whose=clinician,
                voucher=voucher,
                origin=self._origin,
            )
            if is_new:
                db.execute(
                    "INSERT INTO clinicians (clinician, credential, public_key, since, how)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (clinician, credential, public_key, passkey.since, passkey.how),
                )
        return {"since": passkey.since}

    def drop(self, *, clinician: str, credential: str) -> None:
        """This passkey signs no more. What it signed stays signed. Harmless to repeat.

        Raises RefusedTransition (`emergency_passkey_last`): where each emergency is signed, one that signs
        has to be left, or whoever speaks for the web process would take hers away and sign with its own.
        """
        with self._store.transaction() as db:
            if self._required and is_last(self.passkeys(clinician), credential, at=self._clock()):
                raise RefusedTransition(
                    "Only this passkey confirms her emergencies.", code="emergency_passkey_last"
                )
            db.execute(
                "UPDATE clinicians SET dropped = ?"
                " WHERE clinician = ? AND credential = ? AND dropped IS NULL",
                (self._clock(), clinician, credential),
            )

    # What an emergency rests on

    def confirmed(self, details: Json, digest: str, signature: Assertion | None) -> Json | None:
        """What to keep of her signature over the emergency's digest (hex); None: she did not sign.

        Raises SignatureRefused (`emergency_unsigned` where each has to be signed, `emergency_differs` where
        the details say otherwise than what came).
        """
        if (details.get("confirmed") == PASSKEY) != (signature is not None):
            raise SignatureRefused("The emergency says otherwise who confirmed it.", code="emergency_differs")
        if signature is None:
            self._check_may_be_unsigned()
            return None
        now, known = self._clock(), self.passkeys(str(details.get("clinician")))
        check_by(known, signature, bytes.fromhex(digest), at=now, origin=self._origin)
        return {**signature.to_json(), "at": now, "origin": self._origin}

    def check_kept(self, access: str) -> None:
        """That what was kept still shows that she signed this very emergency. Raises AccessDenied."""
        details, kept = self._store.access_details(access), self._store.access_signature(access)
        try:
            if kept is None:
                if details.get("confirmed") == PASSKEY:
                    raise SignatureRefused(
                        "The signature is not kept here.", code="emergency_signature_missing"
                    )
                self._check_may_be_unsigned()
                return
            at, origin = kept.pop("at"), kept.pop("origin")
            found = self._store.access(access)
            digest = bytes.fromhex(found.digest) if found else b""
            known = self.passkeys(str(details["clinician"]))
            assertion = Assertion.from_json(kept)
            check_by(known, assertion, digest, at=at, origin=origin, kept=True)
        except SignatureRefused as error:
            raise AccessDenied("The clinician's signature does not hold.", code=error.code) from None

    def shown(self, access: str) -> Json | None:
        """The signature with the key that checks it, for whoever verifies it without us; None: unsigned."""
        kept = self._store.access_signature(access)
        if kept is None:
            return None
        clinician = str(self._store.access_details(access)["clinician"])
        passkey = named(self.passkeys(clinician), kept["credential"])
        return {**kept, "public_key_b64": to_b64(passkey.public_key)}

    def _check_may_be_unsigned(self) -> None:
        if self._required:
            raise SignatureRefused(
                "Here an emergency needs the clinician's own signature.", code="emergency_unsigned"
            )
