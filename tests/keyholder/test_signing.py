"""The patient signs: what the keyholder takes for her yes, and what it opens on it."""

import dataclasses
import json
from typing import Any

import pytest

from gateway.keyholder.envelope import seal
from gateway.keyholder.signing import DRAFT_SECONDS, QUIET_SECONDS
from gateway.keyholder.store import _opening_aad
from ledger.errors import AccessDenied, EnvelopeError, RefusedTransition
from ledger.webauthn import Assertion, passkey_challenge
from tests.keyholder.house import House, fhir_consent, new_id
from tests.passkeys import ORIGIN, PRESENT, Passkey


@pytest.fixture
def house(house: House) -> House:
    house.serve(house.ledger, origin=ORIGIN)
    return house


@pytest.fixture
def alice(house: House) -> str:
    return house.patient()


@pytest.fixture
def phone(house: House, alice: str) -> Passkey:
    """alice's passkey, which the keyholder knows."""
    made = Passkey()
    enrol(house, alice, made)
    return made


def enrol(house: House, patient: str, passkey: Passkey, voucher: Assertion | None = None) -> Any:
    return house.service.signing.enrol_passkey(
        patient=patient, credential=passkey.credential, public_key=passkey.public_key, voucher=voucher
    )


def vouch(signer: Passkey, patient: str, passkey: Passkey) -> Assertion:
    return signer.sign(
        passkey_challenge(patient=patient, credential=passkey.credential, public_key=passkey.public_key)
    )


def draft(house: House, patient: str, **said: Any) -> tuple[dict[str, Any], bytes]:
    """The arguments of a grant, and what is to be signed."""
    args = {"consent": new_id(), "patient": patient, "fhir": fhir_consent(**said)}
    return args, bytes.fromhex(house.service.signing.draft(**args)["commitment"])


def signed(house: House, patient: str, passkey: Passkey, **said: Any) -> str:
    args, challenge = draft(house, patient, **said)
    answer = house.service.grant(**args, signature=passkey.sign(challenge).to_json())
    assert answer["state"] == "committed", answer
    return str(args["consent"])


def refused(house: House, args: dict[str, Any], **more: Any) -> str:
    """The code with which a grant is refused; nothing of it is kept or on the ledger."""
    with pytest.raises(RefusedTransition) as error:
        house.service.grant(**args, **more)
    assert house.store.opening(args["consent"]) is None
    assert house.on_ledger(f"consent/{args['consent']}") is None
    many = house.service.grant_many(grants=[{**args, **more}])
    assert many[args["consent"]] == {
        "tx_id": "", "block": None, "state": "refused", "code": error.value.code
    }  # fmt: skip
    return error.value.code


def rewrite(house: House, consent: str, change: Any) -> None:
    """As somebody could who has the patient's key: the kept opening says something else."""
    kept = house.store.opening(consent)
    assert kept is not None
    body = change(
        {
            "canonical": kept.canonical,
            "key": kept.key.hex(),
            "signature": kept.signature,
            "signature_required": kept.signature_required,
        }
    )
    sealed = seal(
        house.store.patient_key(kept.patient), json.dumps(body).encode(), _opening_aad(kept.patient, consent)
    )
    with house.store.transaction() as db:
        db.execute("UPDATE consents SET opening = ? WHERE consent = ?", (sealed, consent))


def test_she_signs_what_goes_on_the_ledger(house: House, alice: str, phone: Passkey) -> None:
    args, challenge = draft(house, alice)
    assert house.service.signing.draft(**args)["commitment"] == challenge.hex()
    assert house.on_ledger(f"consent/{args['consent']}") is None
    signature = phone.sign(challenge).to_json()
    assert house.service.grant(**args, signature=signature, signature_required=True)["state"] == "committed"
    assert house.on_ledger(f"consent/{args['consent']}")["commitment"] == challenge.hex()
    # A repeat is the same grant, with or without the signature.
    assert house.service.grant(**args)["state"] == "committed"
    shown = house.service.signed_consent(consent=args["consent"], patient=alice)
    assert shown["commitment"] == challenge.hex()
    assert shown["signature"].items() >= {**signature, "origin": ORIGIN}.items()
    assert shown["evidence"]["kind"] == "embedded"

    child, answer = house.release({"ff" * 32: alice})
    assert answer["decision"] == "permit"
    assert house.open(child, "ff" * 32).chunks
    digest, _ = house.seal_output(child, "ff" * 32)
    assert house.deliver(child, "ff" * 32, digest)["delivered"] == [digest]


def test_several_that_she_signed_go_together(house: House, alice: str, phone: Passkey) -> None:
    grants = []
    for _ in range(3):
        args, challenge = draft(house, alice)
        grants.append({**args, "signature": phone.sign(challenge).to_json(), "signature_required": True})
    forged = {**grants[0], **draft(house, alice)[0]}
    answers = house.service.grant_many(grants=[*grants, forged])
    assert answers.pop(forged["consent"])["code"] == "signature_challenge"
    assert len({answer["tx_id"] for answer in answers.values()}) == 1
    assert all(house.store.opening(one["consent"]).signature for one in grants)  # type: ignore[union-attr]


def test_from_the_first_passkey_on_no_unsigned_yes_is_taken(house: House, alice: str) -> None:
    house.grant(alice)
    phone = Passkey()
    enrol(house, alice, phone)
    assert refused(house, draft(house, alice)[0]) == "signature_missing"
    signed(house, alice, phone)
    # Nor for a change of what she gave, whichever way it goes.
    before = signed(house, alice, phone)
    assert (
        refused(house, draft(house, alice, types=("Condition",))[0], replaces=before) == "signature_missing"
    )
    assert house.grant(house.patient())  # others are free to


def test_where_a_signature_is_required_none_is_no(house: House, alice: str) -> None:
    assert refused(house, draft(house, alice)[0], signature_required=True) == "signature_missing"


@pytest.mark.parametrize(
    ("forged", "code"),
    [
        ({"origin": "https://evil.example"}, "signature_origin"),
        ({"rp_id": "evil.example"}, "signature_site"),
        ({"flags": PRESENT}, "signature_verification"),
        ({"kind": "webauthn.create"}, "signature_type"),
    ],
)
def test_a_forged_signature_is_refused(
    house: House, alice: str, phone: Passkey, forged: dict[str, Any], code: str
) -> None:
    args, challenge = draft(house, alice)
    assert refused(house, args, signature=phone.sign(challenge, **forged).to_json()) == code


def test_a_signature_of_another_consent_is_refused(house: House, alice: str, phone: Passkey) -> None:
    """Replayed, or of what she was shown while something wider is granted."""
    narrow, challenge = draft(house, alice, types=("Condition",))
    signature = phone.sign(challenge).to_json()
    wide, _ = draft(house, alice)
    assert refused(house, wide, signature=signature) == "signature_challenge"
    # Under the narrow one's id the wide one is not what was drafted.
    assert refused(house, {**narrow, "fhir": wide["fhir"]}, signature=signature) == "consent_differs"
    assert house.service.grant(**narrow, signature=signature)["state"] == "committed"
    assert refused(house, draft(house, alice)[0], signature=signature) == "signature_challenge"


def test_a_strangers_signature_is_refused(house: House, alice: str, phone: Passkey) -> None:
    args, challenge = draft(house, alice)
    charlie, other = house.patient(), Passkey()
    enrol(house, charlie, other)
    assert refused(house, args, signature=other.sign(challenge).to_json()) == "passkey_unknown"
    named = dataclasses.replace(other.sign(challenge), credential=phone.credential)
    assert refused(house, args, signature=named.to_json()) == "signature_wrong"
    # Nor does her own sign for the stranger.
    args, challenge = draft(house, charlie)
    assert refused(house, args, signature=phone.sign(challenge).to_json()) == "passkey_unknown"


def test_what_was_not_drafted_cannot_be_signed(house: House, alice: str, phone: Passkey) -> None:
    args = {"consent": new_id(), "patient": alice, "fhir": fhir_consent()}
    assert refused(house, args, signature=phone.sign(bytes(32)).to_json()) == "draft_unknown"
    assert refused(house, args, signature={"credential": "aa"}) == "draft_unknown"
    drafted, _ = draft(house, alice)
    assert refused(house, drafted, signature={"credential": "aa"}) == "signature_malformed"


def test_a_draft_is_one_patients_and_says_one_thing(house: House, alice: str) -> None:
    args, _ = draft(house, alice)
    for change in ({"patient": house.patient()}, {"fhir": fhir_consent(types=("Condition",))}):
        with pytest.raises(RefusedTransition) as error:
            house.service.signing.draft(**{**args, **change})
        assert error.value.code == "consent_differs"
    with pytest.raises(RefusedTransition) as error:
        house.service.signing.draft(**{**args, "patient": new_id()})
    assert error.value.code == "patient_unknown"


def test_an_old_draft_is_forgotten(house: House, alice: str, phone: Passkey) -> None:
    args, challenge = draft(house, alice)
    house.clock.ahead += DRAFT_SECONDS + 1
    draft(house, alice)
    assert refused(house, args, signature=phone.sign(challenge).to_json()) == "draft_unknown"


def test_nothing_of_a_draft_or_a_passkey_is_kept_in_clear(house: House, alice: str, phone: Passkey) -> None:
    draft(house, alice)
    with house.store.transaction() as db:
        rows = [*db.execute("SELECT * FROM drafts"), *db.execute("SELECT * FROM passkeys")]
    kept = b"".join(value for row in rows for value in row if isinstance(value, bytes))
    assert len(rows) == 2
    for secret in (
        b"Observation",
        phone.credential.encode(),
        bytes.fromhex(phone.credential),
        phone.public_key,
    ):
        assert secret not in kept


# Which passkeys sign


def test_a_second_passkey_needs_the_word_of_the_first(house: House, alice: str, phone: Passkey) -> None:
    tablet, laptop = Passkey(), Passkey()
    with pytest.raises(RefusedTransition) as error:
        enrol(house, alice, tablet)
    assert error.value.code == "voucher_missing"
    for voucher, code in [
        (vouch(tablet, alice, tablet), "passkey_unknown"),  # it cannot vouch for itself
        (vouch(phone, alice, laptop), "signature_challenge"),
        (vouch(phone, house.patient(), tablet), "signature_challenge"),
        (phone.sign(bytes(32)), "signature_challenge"),
    ]:
        with pytest.raises(RefusedTransition) as error:
            enrol(house, alice, tablet, voucher)
        assert error.value.code == code
    enrol(house, alice, tablet, vouch(phone, alice, tablet))
    signed(house, alice, tablet)
    enrol(house, alice, laptop, vouch(tablet, alice, laptop))
    assert len(house.service.signing.signers(alice)["signing"]) == 3


def test_a_yes_is_no_word_for_a_passkey(house: House, alice: str, phone: Passkey) -> None:
    """What she signs for a consent vouches for nothing, and the other way round."""
    tablet = Passkey()
    _, challenge = draft(house, alice)
    with pytest.raises(RefusedTransition) as error:
        enrol(house, alice, tablet, phone.sign(challenge))
    assert error.value.code == "signature_challenge"


def test_a_passkey_stays_what_it_is(house: House, alice: str, phone: Passkey) -> None:
    since = enrol(house, alice, phone)
    house.clock.ahead += 5
    assert enrol(house, alice, phone) == since
    with pytest.raises(RefusedTransition) as error:
        enrol(house, alice, Passkey(credential=phone.credential))
    assert error.value.code == "passkey_differs"


def test_after_a_clinic_visit_no_yes_for_a_day(house: House, alice: str, phone: Passkey) -> None:
    old = signed(house, alice, phone)
    args, challenge = draft(house, alice)
    until = house.service.signing.drop_passkeys(patient=alice)["until"]
    assert refused(house, args, signature=phone.sign(challenge).to_json()) == "passkey_not_signing"
    assert refused(house, draft(house, alice)[0]) == "signing_quiet"
    with pytest.raises(RefusedTransition) as error:
        enrol(house, alice, phone)
    assert error.value.code == "passkey_differs"
    # The new one is taken on trust, and signs only when the day is over.
    new = Passkey()
    assert enrol(house, alice, new) == {"since": until}
    args, challenge = draft(house, alice)
    assert refused(house, args, signature=new.sign(challenge).to_json()) == "passkey_not_signing"
    with pytest.raises(RefusedTransition) as error:
        enrol(house, alice, Passkey(), vouch(new, alice, new))
    assert error.value.code == "passkey_not_signing"
    assert house.service.signing.signers(alice) == {
        "known": [new.credential], "signing": [], "quiet_until": until
    }  # fmt: skip
    house.clock.ahead += QUIET_SECONDS + 1
    signed(house, alice, new)
    # What was signed before stays signed.
    opening = house.store.opening(old)
    assert opening is not None
    house.service.signing.check_kept(opening)


def test_who_gave_up_passkeys_may_say_yes_without_after_the_day(
    house: House, alice: str, phone: Passkey
) -> None:
    house.service.signing.drop_passkeys(patient=alice)
    house.clock.ahead += QUIET_SECONDS + 1
    house.grant(alice)


def test_one_of_several_can_go_and_the_last_that_signs_cannot(
    house: House, alice: str, phone: Passkey
) -> None:
    tablet, signing = Passkey(), house.service.signing
    with pytest.raises(RefusedTransition) as error:
        signing.drop_passkey(patient=alice, credential=phone.credential)
    assert error.value.code == "passkey_last"
    enrol(house, alice, tablet, vouch(phone, alice, tablet))
    for _ in range(2):
        signing.drop_passkey(patient=alice, credential=phone.credential)
    args, challenge = draft(house, alice)
    assert refused(house, args, signature=phone.sign(challenge).to_json()) == "passkey_not_signing"
    # The other one signs at once, and so does what it vouches for: nobody lost anything.
    assert signing.signers(alice)["quiet_until"] == 0
    signed(house, alice, tablet)
    laptop = Passkey()
    enrol(house, alice, laptop, vouch(tablet, alice, laptop))
    signed(house, alice, laptop)
    # Of somebody else's, and of one that was never known, nothing happens.
    signing.drop_passkey(patient=house.patient(), credential=tablet.credential)
    signing.drop_passkey(patient=alice, credential="ab" * 16)
    assert len(signing.signers(alice)["signing"]) == 2
    # One that does not sign yet does not count as the one that is left.
    signing.drop_passkeys(patient=alice)
    new = Passkey()
    enrol(house, alice, new)
    with pytest.raises(RefusedTransition) as error:
        signing.drop_passkey(patient=alice, credential=new.credential)
    assert error.value.code == "passkey_last"


def test_a_reset_of_nothing_changes_nothing(house: House, alice: str) -> None:
    house.service.signing.drop_passkeys(patient=alice)
    house.grant(alice)


# Before anything is released or opened


def cut(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "signature": None, "signature_required": True}


def swap(body: dict[str, Any]) -> dict[str, Any]:
    forged = Passkey(credential=body["signature"]["credential"]).sign(bytes(32))
    return {**body, "signature": {**body["signature"], **forged.to_json()}}


def elsewhere(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "signature": {**body["signature"], "origin": "https://evil.example"}}


@pytest.mark.parametrize(
    ("change", "code"),
    [(cut, "signature_missing"), (swap, "signature_challenge"), (elsewhere, "signature_origin")],
)
def test_nothing_rests_on_a_signature_that_does_not_hold(
    house: House, alice: str, phone: Passkey, change: Any, code: str
) -> None:
    consent, subject = signed(house, alice, phone), "ff" * 32
    child, _ = house.release({subject: alice})
    assert house.open(child, subject).chunks
    digest, _ = house.seal_output(child, subject)
    rewrite(house, consent, change)
    with pytest.raises(AccessDenied) as error:
        house.open(child, subject)
    assert error.value.code == code
    assert house.deliver(child, subject, digest)["withheld"] == [digest]
    _, answer = house.release({subject: alice})
    assert answer["decision"] == "deny"
    assert answer["subjects"][subject]["reasons"] == ["signature_wrong"]


def test_a_deny_denies_whatever_became_of_its_signature(house: House, alice: str, phone: Passkey) -> None:
    subject, other = "ff" * 32, "ee" * 32
    signed(house, alice, phone)
    child, _ = house.release({subject: alice})
    assert house.open(child, subject).chunks
    deny = signed(house, alice, phone, kind="deny")
    child, _ = house.release({other: alice})
    assert not house.open(child, other).chunks
    rewrite(house, deny, swap)
    child, _ = house.release({subject: alice})
    with pytest.raises(AccessDenied) as error:
        house.open(child, subject)
    assert error.value.code == "signature_challenge"


def test_the_signed_consent_is_shown_to_its_patient_alone(house: House, alice: str, phone: Passkey) -> None:
    unsigned = house.grant(house.patient())
    consent = signed(house, alice, phone)
    for asked, patient in ((consent, house.patient()), (unsigned, alice), (new_id(), alice)):
        with pytest.raises(RefusedTransition) as error:
            house.service.signed_consent(consent=asked, patient=patient)
        assert error.value.code == "not_signed"
    with house.store.transaction() as db:
        db.execute("UPDATE consents SET opening = ? WHERE consent = ?", (b"x" * 40, consent))
    with pytest.raises(EnvelopeError):
        house.service.signed_consent(consent=consent, patient=alice)


def test_a_store_of_the_format_before_knows_no_passkeys(house: House, alice: str) -> None:
    before = house.grant(alice)
    rewrite(house, before, lambda body: {name: body[name] for name in ("canonical", "key")})
    house.start_keyholder_on(3, origin=ORIGIN)
    phone = Passkey()
    enrol(house, alice, phone)
    signed(house, alice, phone)
    assert house.release({"ff" * 32: alice})[1]["decision"] == "permit"
