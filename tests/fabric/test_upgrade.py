"""The next version of the contract on a running channel: what stood before it stands after it."""

import subprocess
import sys
from contextlib import closing

from deploy.fabric.network import Network
from ledger.fsck import check
from tests.ledger.conformance import MODEL, Given, commit, new_id, release_args, submit, with_openings


def test_consents_and_stops_survive_an_upgrade(three: Network) -> None:
    before = three.settings.version
    in_force, stopped = Given(), Given()
    with closing(three.ledger("admin")) as admin:
        model = {"model": MODEL, "card": new_id(), "provider": "Helix AI", "state": "approved"}
        assert submit(admin, "RegisterModel", model).is_valid
    with closing(three.ledger("keyholder")) as keyholder:
        for given in (in_force, stopped):
            assert submit(keyholder, "GrantConsent", given.args, given.transient).is_valid
        assert submit(keyholder, "RevokeConsent", {"consent": stopped.id}).is_valid

    command = [sys.executable, "-m", "deploy.fabric", "upgrade", str(three.folder)]
    said = subprocess.run(command, check=False, capture_output=True, text=True, timeout=180)
    assert (said.returncode, said.stdout) == (0, f"version {before + 1}\n"), said.stderr

    with closing(three.ledger("keyholder")) as keyholder:
        for given, decision in ((in_force, "permit"), (stopped, "deny")):
            release = keyholder.prepare("Release", release_args(given), with_openings(given))
            assert release.result["decision"] == decision
            assert commit(keyholder, release).is_valid
    with closing(three.ledger("gateway", three.organisations[1])) as elsewhere:
        assert submit(elsewhere, "RevokeConsent", {"consent": in_force.id}).is_valid
    found = check(three.url)
    assert found.good, found
