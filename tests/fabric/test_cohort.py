"""A whole cohort in one release: a thousand consents, their openings as transient data."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.fabric.network import Network
from tests.ledger.conformance import Given, commit, new_id, release_args, submit, with_openings

CONSENTS = int(os.environ.get("COHORT", "1000"))


@pytest.mark.exhaustive
def test_a_thousand_consents_in_one_release(two: Network, capsys: pytest.CaptureFixture[str]) -> None:
    """Committed whole; not one opening is in any file of any peer or orderer."""
    keyholder, admin = two.ledger("keyholder"), two.ledger("admin")
    model = {"model": release_args()["model"], "card": new_id(), "provider": "Helix AI", "state": "approved"}
    assert submit(admin, "RegisterModel", model).is_valid
    consents = [Given() for _ in range(CONSENTS)]

    def grant(given: Given) -> bool:
        return submit(keyholder, "GrantConsent", given.args, given.transient).is_valid

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(grant, consents))
    begin = time.monotonic()
    envelope = keyholder.prepare("Release", release_args(*consents), with_openings(*consents))
    endorsed = time.monotonic() - begin
    assert envelope.result["decision"] == "permit"
    assert commit(keyholder, envelope).is_valid
    took = time.monotonic() - begin
    with capsys.disabled():
        print(
            f"\n{CONSENTS} consents: endorsed {endorsed * 1e3:.0f} ms, "
            f"committed {took * 1e3:.0f} ms, envelope {len(envelope.data) / 1000:.0f} kB"
        )
    secrets = [consents[0].key.hex().encode(), consents[-1].opening["consent"]["patient"].encode()]
    for path in (two.folder / "nodes").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(secret in data for secret in secrets)
    for path in (two.folder / "logs").iterdir():
        assert not any(secret in path.read_bytes() for secret in secrets)
    keyholder.close()
    admin.close()
