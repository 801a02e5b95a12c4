"""A job through both doors: grant, release, open, compute, deliver, open the result."""

import pytest

from gateway.keyholder.log import check_log
from ledger.channels import HOME
from ledger.errors import AccessDenied
from tests.keyholder.house import House, new_id


def test_a_consented_job_goes_through_both_doors(house: House) -> None:
    alice, subject = house.patient(), new_id()
    consent = house.grant(alice)

    child, released = house.release({subject: alice})
    assert released["decision"] == "permit"
    assert released["subjects"][subject] == {
        "decision": "permit",
        "reasons": ["permitted"],
        "consent": consent,
    }
    opened = house.open(child, subject)
    lines = child.open(house, opened, subject=subject, patient=alice)
    assert sorted(lines) == [b'{"code":2}\n', b'{"value":1}\n']
    assert not opened.more

    digest, sealed = house.seal_output(child, subject)
    with pytest.raises(AccessDenied) as refusal:
        house.service.open_output(job=child.job, digest=digest, sealed=sealed)
    assert refusal.value.code == "not_delivered"
    delivered = house.deliver(child, subject, digest)
    assert delivered["delivered"] == [digest]
    assert house.service.open_output(job=child.job, digest=digest, sealed=sealed) == b'{"risk":1}'

    grounds = [entry["ground"] for entry in check_log(house.home / "keyholder", {HOME: house.trust})]
    assert grounds == ["release", "output"]
