"""The keyholder's clock may not go back: what has run out stays so."""

import subprocess
import sys
import time

import pytest

from gateway.keyholder.client import Keyholder
from gateway.keyholder.clock import TOLERANCE_SECONDS, KeptClock
from gateway.processes import listens_at
from ledger.errors import AccessDenied, KeyholderUnavailable
from tests.keyholder.house import House, new_id


def test_a_clock_that_was_set_back_revives_no_result(house: House) -> None:
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 600))
    alice, subject = house.patient(), new_id()
    house.grant(alice, until=until)
    child, _ = house.release({subject: alice})
    house.open(child, subject)
    digest, sealed = house.seal_output(child, subject)
    house.deliver(child, subject, digest)
    house.clock.ahead = 700
    with pytest.raises(AccessDenied) as expired:
        house.service.open_output(job=child.job, digest=digest, sealed=sealed)
    assert expired.value.code == "consent_expired"
    # A refusal, too, was made at a time; it is durable, and a new start knows it.
    house.clock.ahead = 0
    for _ in range(2):
        with pytest.raises(KeyholderUnavailable) as found:
            house.service.open_output(job=child.job, digest=digest, sealed=sealed)
        assert found.value.code == "clock_went_back"
        house.store.close()
        house.start_keyholder()


def test_nothing_is_opened_or_released_by_a_clock_that_went_back(house: House) -> None:
    house.serve(house.ledger, copies=1)
    alice, subject, access = house.patient(), new_id(), new_id()
    consent = house.grant(alice)
    child, _ = house.release({subject: alice})
    expires = int(time.time()) + 3600
    house.service.own_copy(access=access, patient=alice, expires=expires, voucher=None)
    house.clock.ahead = -60
    for act in (
        lambda: house.open(child, subject),
        lambda: house.service.read_own_copy(access=access, sealed={}),
        lambda: house.release({subject: alice}),
    ):
        with pytest.raises(KeyholderUnavailable) as found:
            act()
        assert found.value.code == "clock_went_back"
    # A wrong clock keeps nobody from stopping.
    house.service.stop(consent=consent)
    assert house.store.is_denied([consent])


def test_a_clock_may_be_put_right_by_a_little(house: House) -> None:
    now = 1_800_000_000
    clock = KeptClock(house.store, lambda: now)
    assert clock() == now
    now -= TOLERANCE_SECONDS
    assert clock() == now
    assert house.store.latest == now + TOLERANCE_SECONDS
    now -= 1
    with pytest.raises(KeyholderUnavailable):
        clock()


def test_an_operator_may_accept_a_clock_that_ran_ahead_and_was_put_right(house: House) -> None:
    house.store.put_latest(int(time.time()) + 86_400)
    house.store.close()
    folder = house.home / "keyholder"
    command = [sys.executable, "-m", "gateway.keyholder", str(folder), "--accept-clock"]
    process = subprocess.Popen([*command, "--ledger", f"embedded://{house.home / 'ledger'}"])
    try:
        deadline = time.monotonic() + 20
        while not listens_at(folder / "keyholder.sock")() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert Keyholder(folder / "keyholder.sock").status()["patients"] == 0
    finally:
        process.terminate()
        process.wait(20)
    house.start_keyholder()
    assert house.store.latest <= time.time()
