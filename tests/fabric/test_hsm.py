"""A channel of real peers takes what an HSM signed."""

import json
from pathlib import Path

import pytest

from deploy.fabric.network import Network
from deploy.fabric.pki import OrganisationFiles
from ledger.fabric.client import FabricLedger
from ledger.fabric.profile import Profile
from tests.ledger.conformance import Given, commit
from tests.ledger.test_hsm import MODULE, Hsm

pytestmark = pytest.mark.skipif(not MODULE, reason="no SoftHSM: `apt-get install softhsm2`")


def test_a_grant_that_an_hsm_signed_is_committed(
    two: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pkcs11

    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    hsm = Hsm(tmp_path)
    pkcs11.lib(MODULE).reinitialize()
    org = two.organisations[0]
    authority = OrganisationFiles(two.folder / "crypto" / org).ca
    certificate = authority.certify("keyholder-hsm", hsm.public, unit="client", role="keyholder")
    (tmp_path / "keyholder.pem").write_bytes(certificate)
    profile = json.loads(two.profile.read_text())
    key = {"module": MODULE, "token": hsm.label, "label": "gateway", "pin_file": str(tmp_path / "pin")}
    profile["identities"]["keyholder"] = {
        "certificate": str(tmp_path / "keyholder.pem"),
        "key": key,
        "organisation": org,
    }
    path = two.folder / "profile-hsm.json"
    path.write_text(json.dumps(profile))
    loaded = Profile.load(path)
    ledger = FabricLedger(loaded, loaded.identity("keyholder"))
    given = Given()
    assert commit(ledger, ledger.prepare("GrantConsent", given.args, given.transient)).is_valid
    ledger.close()
    path.unlink()
