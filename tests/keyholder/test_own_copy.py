"""The patient's own copy: whose word it takes, how many, and that it opens hers alone."""

import time

import pytest

from gateway.keyholder.log import check_log
from gateway.keyholder.signing import QUIET_SECONDS
from ledger.client import HOME
from ledger.errors import AccessDenied, EnvelopeError, RefusedTransition
from ledger.webauthn import Assertion, copy_challenge
from tests.keyholder.house import House, new_id
from tests.passkeys import ORIGIN, PRESENT, VERIFIED, Passkey


@pytest.fixture
def house(house: House) -> House:
    """A house where three copies that nobody signed for may begin within an hour."""
    house.serve(house.ledger, origin=ORIGIN, copies=3)
    return house


@pytest.fixture
def alice(house: House) -> str:
    return house.patient()


def in_an_hour(house: House) -> int:
    return int(time.time() + house.clock.ahead) + 3600


def begin(
    house: House, patient: str, *, passkey: Passkey | None = None, access: str = "", **said: int
) -> str:
    access, expires = access or new_id(), said.get("expires", in_an_hour(house))
    voucher = passkey and passkey.sign(copy_challenge(patient=patient, access=access, expires=expires))
    answer = house.service.own_copy(access=access, patient=patient, expires=expires, voucher=voucher)
    assert answer["state"] == "committed"
    return access


def refusal(call: object) -> str:
    with pytest.raises((AccessDenied, RefusedTransition)) as found:
        call()  # type: ignore[operator]
    return found.value.code


def know(house: House, patient: str) -> Passkey:
    made = Passkey()
    house.service.signing.enrol_passkey(
        patient=patient, credential=made.credential, public_key=made.public_key
    )
    return made


def read(house: House, access: str) -> list[bytes]:
    sealed = {one.chunk: house.blobs[one.chunk] for one in house.service.own_copy_index(access=access)}
    return sorted(house.service.read_own_copy(access=access, sealed=sealed).values())


def test_a_copy_is_on_the_ledger_read_here_and_logged(house: House, alice: str) -> None:
    access = begin(house, alice)
    assert house.on_ledger(f"access/{access}")["kind"] == "subject"
    assert read(house, access) == [b'{"code":2}\n', b'{"value":1}\n']
    (entry,) = check_log(house.home / "keyholder", {HOME: house.trust})
    assert (entry["ground"], len(entry["opened"])) == ("subject", 2)


def test_another_patients_records_are_not_in_it(house: House, alice: str) -> None:
    access, other = begin(house, alice), house.add_chunk(house.patient(), "Observation", b"{}\n")
    sealed = {other: house.blobs[other]}
    assert refusal(lambda: house.service.read_own_copy(access=access, sealed=sealed)) == "chunk_unknown"
    own = house.service.own_copy_index(access=access)[0].chunk
    with pytest.raises(EnvelopeError):
        house.service.read_own_copy(access=access, sealed={own: house.blobs[other]})


def test_a_copy_is_no_emergency_and_no_emergency_is_a_copy(house: House, alice: str) -> None:
    house.serve(house.ledger, origin=ORIGIN, copies=3, emergencies=3)
    copy, emergency = begin(house, alice), new_id()
    house.service.emergency_access(access=emergency, patient=alice, details={}, expires=in_an_hour(house))
    assert refusal(lambda: house.service.read_emergency(access=copy, sealed={})) == "access_unknown"
    assert refusal(lambda: house.service.read_own_copy(access=emergency, sealed={})) == "access_unknown"
    assert refusal(lambda: house.service.own_copy_index(access=emergency)) == "access_unknown"


def test_it_is_over_after_an_hour_and_never_longer(house: House, alice: str) -> None:
    access = begin(house, alice)
    for seconds in (60, 7200, -1):
        expires = in_an_hour(house) - 3600 + seconds
        assert refusal(lambda e=expires: begin(house, alice, expires=e)) == "access_expiry"
    house.clock.ahead += 3601
    assert refusal(lambda: house.service.own_copy_index(access=access)) == "access_expired"
    assert refusal(lambda: house.service.read_own_copy(access=access, sealed={})) == "access_expired"


def test_what_the_ledger_does_not_have_opens_nothing(house: House, alice: str) -> None:
    expires, access = in_an_hour(house), new_id()
    house.store.put_access(
        access, kind="subject", patient=alice, details={}, digest="00" * 32, expires=expires
    )
    assert refusal(lambda: house.service.read_own_copy(access=access, sealed={})) == "access_missing"


# Whose word it takes


def test_without_a_passkey_there_are_few_within_an_hour(house: House, alice: str) -> None:
    expires = in_an_hour(house)
    first = begin(house, alice, expires=expires)
    for _ in range(2):
        begin(house, house.patient())
    assert refusal(lambda: begin(house, house.patient())) == "copies_too_many"
    begin(house, alice, access=first, expires=expires)  # the same once more
    house.clock.ahead += 3700
    begin(house, alice)
    house.serve(house.ledger, origin=ORIGIN)
    assert refusal(lambda: begin(house, alice)) == "copies_too_many"


def test_who_has_a_passkey_signs_for_each_copy(house: House, alice: str) -> None:
    phone = know(house, alice)
    assert refusal(lambda: begin(house, alice)) == "voucher_missing"
    access = begin(house, alice, passkey=phone)
    assert len(read(house, access)) == 2
    for _ in range(4):  # not bounded: nobody else can ask
        begin(house, alice, passkey=phone)


def test_a_signature_for_something_else_is_no_word_of_hers(house: House, alice: str) -> None:
    phone, stranger, charlie = know(house, alice), Passkey(), house.patient()
    thief, expires, access = know(house, charlie), in_an_hour(house), new_id()

    def ask(voucher: Assertion, **changes: object) -> str:
        asked = {"access": access, "patient": alice, "expires": expires, **changes}
        return refusal(lambda: house.service.own_copy(**asked, voucher=voucher))  # type: ignore[arg-type]

    own = copy_challenge(patient=alice, access=access, expires=expires)
    assert ask(stranger.sign(own)) == ask(thief.sign(own)) == "passkey_unknown"
    assert ask(phone.sign(own), access=new_id()) == "signature_challenge"
    assert ask(phone.sign(own), expires=expires + 1) == "signature_challenge"
    assert ask(phone.sign(own), patient=charlie) == "passkey_unknown"
    assert ask(phone.sign(own, origin="https://evil.example")) == "signature_origin"
    assert ask(phone.sign(own, flags=PRESENT)) == "signature_verification"
    assert ask(phone.sign(b"\x00" * 32, flags=PRESENT | VERIFIED)) == "signature_challenge"
    assert house.on_ledger(f"access/{access}") is None


def test_for_a_day_after_a_reset_nobody_gets_a_copy(house: House, alice: str) -> None:
    know(house, alice)
    house.service.signing.drop_passkeys(patient=alice)
    assert refusal(lambda: begin(house, alice)) == "signing_quiet"
    house.clock.ahead += QUIET_SECONDS + 1
    begin(house, alice)
