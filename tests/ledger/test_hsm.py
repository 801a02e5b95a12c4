"""A key in an HSM (SoftHSM): it signs like one in a file, and each failure has its code."""

import json
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from deploy.fabric.pki import OrganisationFiles
from ledger.errors import OutcomeUnknown, SignerUnavailable
from ledger.fabric.hsm import HsmSigner, Token
from ledger.fabric.identity import P256_ORDER, Identity
from tests.ledger.fake_network import FakeNetwork
from tests.ledger.toy import run

pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")
PLACES = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"]
MODULE = next((each for each in PLACES if Path(each).exists()), "")
PIN = "246810"

pytestmark = pytest.mark.skipif(
    not (MODULE and shutil.which("softhsm2-util")), reason="no SoftHSM: `apt-get install softhsm2`"
)


class Hsm:
    """One SoftHSM token with the key `gateway`, and the certificate of that key."""

    def __init__(self, folder: Path) -> None:
        (folder / "tokens").mkdir()
        (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\n")
        self.folder, self.label = folder, f"token-{secrets.token_hex(8)}"  # 32 characters at most
        self._tool("--init-token", "--free", "--label", self.label, "--so-pin", PIN)
        self.public = self.make_key("gateway", "01")
        self.files = OrganisationFiles.make(folder / "crypto", "AMSP")
        self.certificate = self.files.ca.certify("gateway", self.public, unit="client", role="gateway")
        self.write_pin(PIN)

    def make_key(self, label: str, number: str) -> ec.EllipticCurvePublicKey:
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self.folder / "key.pem").write_bytes(pem)
        file = str(self.folder / "key.pem")
        self._tool("--import", file, "--token", self.label, "--label", label, "--id", number)
        return key.public_key()

    def take_out(self) -> None:
        (self.folder / "tokens").rename(self.folder / "away")
        (self.folder / "tokens").mkdir()
        self.end_sessions()

    def put_back(self) -> None:
        (self.folder / "tokens").rmdir()
        (self.folder / "away").rename(self.folder / "tokens")

    @staticmethod
    def end_sessions() -> None:
        import pkcs11

        pkcs11.lib(MODULE).reinitialize()

    def _tool(self, *words: str) -> None:
        subprocess.run(["softhsm2-util", *words, "--pin", PIN], check=True, capture_output=True)

    def write_pin(self, pin: str, mode: int = 0o600) -> None:
        (self.folder / "pin").write_text(pin + "\n")
        (self.folder / "pin").chmod(mode)

    def token(self, **changes: Any) -> Token:
        entry = {"module": MODULE, "token": self.label, "label": "gateway", "pin_file": "pin", **changes}
        return Token.read({name: value for name, value in entry.items() if value is not None}, self.folder)

    def signer(self, **changes: Any) -> HsmSigner:
        return HsmSigner(self.token(**changes), self.certificate)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hsm]:
    folder = tmp_path_factory.mktemp("hsm")
    with pytest.MonkeyPatch.context() as patch:
        # SoftHSM reads its configuration when the module begins, once for the whole process.
        patch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        yield Hsm(folder)


@pytest.fixture
def hsm(made: Hsm) -> Hsm:
    made.write_pin(PIN)
    return made


def refusal(signer: HsmSigner) -> str:
    with pytest.raises(SignerUnavailable) as found:
        signer.sign_digest(bytes(32))
    assert PIN not in str(found.value)
    return found.value.code


def test_it_signs_what_the_certificate_verifies_with_a_low_s(hsm: Hsm) -> None:
    (hsm.folder / "gateway.pem").write_bytes(hsm.certificate)
    identity = Identity.from_token("AMSP", hsm.folder / "gateway.pem", hsm.token())
    for number in range(8):
        message = b"proposal %d" % number
        signature = identity.sign(message)
        hsm.public.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        assert utils.decode_dss_signature(signature)[1] <= P256_ORDER // 2


def test_the_key_may_be_named_by_its_id(hsm: Hsm) -> None:
    hsm.signer(label=None, id="01").sign_digest(bytes(32))


def test_many_threads_and_identities_share_the_token(hsm: Hsm) -> None:
    signers = [hsm.signer() for _ in range(3)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: signers[number % 3].sign_digest(bytes([number]) * 32), range(60)))


def test_a_token_that_was_reset_is_found_again(hsm: Hsm) -> None:
    signer = hsm.signer()
    signer.sign_digest(bytes(32))
    hsm.end_sessions()
    signer.sign_digest(bytes(32))


def test_a_token_that_is_gone_and_comes_back(hsm: Hsm) -> None:
    signer = hsm.signer()
    signer.sign_digest(bytes(32))
    hsm.take_out()
    assert [refusal(signer), refusal(signer)] == ["signer_token_missing"] * 2
    hsm.put_back()
    signer.sign_digest(bytes(32))


def test_a_reset_under_load_gives_nobody_anothers_signature(hsm: Hsm) -> None:
    """Handles are small numbers that a library gives out again: each signer looks its key up anew."""
    key = hsm.make_key("second", "07")
    second = HsmSigner(hsm.token(label="second"), hsm.files.ca.certify("second", key, unit="client"))
    signers, publics = [hsm.signer(), second], [hsm.public, key]

    def sign(number: int) -> None:
        if number % 25 == 0:
            with signers[0]._module.lock:
                signers[0]._module.start_again()
        digest = bytes([number]) * 32
        der = utils.encode_dss_signature(*signers[number % 2].sign_digest(digest))
        publics[number % 2].verify(der, digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(sign, range(100)))


def test_a_transaction_signed_in_the_token(hsm: Hsm, tmp_path: Path) -> None:
    network = FakeNetwork(tmp_path, run)
    try:
        org = OrganisationFiles(tmp_path / "crypto" / "RiversideMSP")
        certificate = org.ca.certify("gateway", hsm.public, unit="client", role="gateway")
        (tmp_path / "hsm.pem").write_bytes(certificate)
        profile = json.loads(network.profile.read_text())
        key = {"module": MODULE, "token": hsm.label, "label": "gateway", "pin_file": str(hsm.folder / "pin")}
        profile["identities"]["gateway"] |= {"certificate": "hsm.pem", "key": key}
        network.profile.write_text(json.dumps(profile))
        ledger = network.ledger("gateway")
        envelope = ledger.prepare("Put", {"key": "a", "value": "v"})
        ledger.send(envelope)
        assert ledger.outcome(envelope.tx_id, timeout=5).is_valid
        # The token is taken out: nothing is prepared, and an outcome is not guessed.
        hsm.take_out()
        with pytest.raises(SignerUnavailable):
            ledger.prepare("Put", {"key": "b", "value": "v"})
        with pytest.raises(OutcomeUnknown):
            ledger.outcome(envelope.tx_id, timeout=1)
        hsm.put_back()
        assert ledger.outcome(envelope.tx_id, timeout=5).is_valid
        ledger.close()
    finally:
        network.close()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"label": "another"}, "signer_key_missing"),
        ({"id": "02"}, "signer_key_missing"),
        ({"token": "another"}, "signer_token_missing"),
        ({"module": "/nowhere/module.so"}, "signer_module_missing"),
        ({"pin_file": "nowhere"}, "signer_pin_missing"),
        ({"pin_file": None, "pin_env": "NO_SUCH_VARIABLE"}, "signer_pin_missing"),
    ],
)
def test_what_cannot_be_used_says_so(hsm: Hsm, changes: dict[str, Any], code: str) -> None:
    assert refusal(hsm.signer(**changes)) == code


def test_a_pin_that_others_may_read_is_not_used(hsm: Hsm) -> None:
    hsm.write_pin(PIN, 0o640)
    assert refusal(hsm.signer()) == "signer_pin_exposed"


def test_a_refused_pin_is_not_tried_again_until_it_is_another(hsm: Hsm) -> None:
    hsm.end_sessions()  # nobody is logged in
    hsm.write_pin("135790")
    signer = hsm.signer()
    assert refusal(signer) == "signer_pin_wrong"
    assert refusal(signer) == "signer_pin_wrong"
    hsm.write_pin(PIN)
    signer.sign_digest(bytes(32))


def test_without_the_package_it_says_what_to_install(hsm: Hsm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    assert refusal(hsm.signer()) == "signer_not_installed"


def test_another_keys_certificate_is_refused(hsm: Hsm) -> None:
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    signer = HsmSigner(hsm.token(), hsm.files.ca.certify("gateway", other, unit="client"))
    assert refusal(signer) == "signer_key_differs"


@pytest.mark.parametrize(
    "entry",
    [
        {"token": "t", "label": "l", "pin_env": "P"},
        {"module": "m", "token": "t", "pin_env": "P"},
        {"module": "m", "token": "t", "label": "l"},
        {"module": "m", "token": "t", "label": "l", "pin_file": "f", "pin_env": "P"},
        {"module": "m", "token": "t", "label": "l", "pin": "1234"},
        {"module": "m", "token": "t", "label": 5, "pin_env": "P"},
    ],
)
def test_a_profile_says_where_the_pin_is_and_never_what_it_is(entry: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="HSM key") as found:
        Token.read(entry, Path())
    assert "1234" not in str(found.value)
