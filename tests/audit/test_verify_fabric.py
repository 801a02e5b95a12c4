"""The verifier on the evidence of a Fabric channel: who signed what, and one flipped bit anywhere."""

import base64
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fabric_protos.common import common_pb2

from deploy.fabric.pki import OrganisationFiles
from ledger import outbox, verify
from ledger.audit import sealing
from ledger.audit.export import Selection, export
from ledger.audit.log import Actor
from ledger.audit.proof import shown_alone
from ledger.client import Ledger, public_keys
from ledger.contract.transactions import run
from ledger.fabric import blocks
from tests.audit.test_verify import status_of
from tests.ledger.fake_network import FakeNetwork

pytestmark = pytest.mark.django_db

POSITIONS = 200


@pytest.fixture
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeNetwork]:
    with FakeNetwork(tmp_path_factory.mktemp("network"), run, orgs=("AMSP", "BMSP", "CMSP")) as made:
        made.register()
        yield made


@pytest.fixture
def ledger(network: FakeNetwork) -> Iterator[Ledger]:
    connected = network.ledger("gateway")
    yield connected
    connected.close()


@pytest.fixture
def bundle(network: FakeNetwork, ledger: Ledger, act: Callable[..., Any], tmp_path: Path) -> Path:
    """An export whose checkpoint, and the one before, stand on the channel."""
    start = (ledger.height() - 1, 1 << 30)
    outbox.EventCursor.objects.create(listener="test", block=start[0], index=start[1])

    def relay() -> None:
        outbox.send_pending(ledger)
        outbox.follow(
            ledger, listener="test", handlers={"Checkpointed": sealing.record_checkpointed}, wait=0.2
        )

    act(3)
    sealing.seal()
    relay()
    act(2)
    export(
        tmp_path / "out",
        selection=Selection(),
        ledger=ledger,
        ledger_keys=public_keys(f"fabric://{network.profile}"),
        actor=Actor.system("command"),
        wait=relay,
    )
    return tmp_path / "out"


@pytest.fixture
def trust(network: FakeNetwork) -> str:
    return str(network.folder / "trust")


def block_of(bundle: Path) -> bytes:
    proof = json.loads((bundle / "proof.json").read_bytes())
    return base64.b64decode(proof["checkpoint"]["evidence"]["block"])


def put(bundle: Path, **changed: Any) -> None:
    """Change the evidence of the checkpoint."""
    proof = json.loads((bundle / "proof.json").read_bytes())
    if isinstance(block := changed.get("block"), bytes):
        changed["block"] = base64.b64encode(block).decode()
    proof["checkpoint"]["evidence"] |= changed
    (bundle / "proof.json").write_bytes(verify.canonical(proof))


def changed(bundle: Path, change: Callable[[Any], object]) -> None:
    """Change the block, with a data hash that fits."""
    block = common_pb2.Block.FromString(block_of(bundle))
    change(block)
    block.header.data_hash = blocks.data_hash(block)
    put(bundle, block=block.SerializeToString())


def test_two_of_three_organisations_signed(bundle: Path, trust: str) -> None:
    report = verify.verify(bundle, trust)
    assert report.exit == 0, report
    says = " ".join(report.checks[1].says)
    assert "AMSP and BMSP, on channel consent, signed" in says
    assert "Consistency" in [check.name for check in report.checks if check.status == "verified"]


def test_roots_in_one_file(bundle: Path, trust: str, tmp_path: Path) -> None:
    file = tmp_path / "roots.pem"
    file.write_bytes(b"".join(path.read_bytes() for path in sorted(Path(trust).glob("?MSP.pem"))))
    assert verify.verify(bundle, str(file)).exit == 0
    assert verify.verify(bundle, str(file), 3).exit == 1


def test_fewer_than_are_needed(bundle: Path, trust: str) -> None:
    assert verify.verify(bundle, trust, 2).exit == 0
    assert verify.verify(bundle, trust, 3).exit == 1
    for needed in (0, 4):
        assert verify.verify(bundle, trust, needed).exit == 2


def test_an_organisation_that_is_not_trusted_counts_for_nothing(
    bundle: Path, trust: str, tmp_path: Path
) -> None:
    some = tmp_path / "some"
    shutil.copytree(trust, some)
    (some / "AMSP.pem").unlink()
    assert status_of(bundle, str(some), "Signatures") == "tampered"
    assert verify.verify(bundle, str(some), 1).exit == 0


def test_roots_of_the_same_name_by_somebody_else(bundle: Path, trust: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for org in ("AMSP", "BMSP", "CMSP"):
        made = OrganisationFiles.make(tmp_path / "crypto" / org, org)
        (other / f"{org}.pem").write_bytes(made.ca.pem)
    assert verify.verify(bundle, str(other)).exit == 1


def test_orderers_who_are_not_trusted(bundle: Path, trust: str, tmp_path: Path) -> None:
    some = tmp_path / "some"
    shutil.copytree(trust, some)
    shutil.copyfile(some / "CMSP.pem", some / "orderers.pem")
    assert status_of(bundle, str(some), "Signatures") == "tampered"
    (some / "orderers.pem").unlink()
    assert verify.verify(bundle, str(some)).exit == 0


def test_a_key_where_roots_are_needed(bundle: Path) -> None:
    assert status_of(bundle, "ab" * 32, "Signatures") == "unknown"


def test_a_bundle_with_something_else_in_it(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "wrong"
    folder.mkdir()
    assert verify.verify(bundle, str(folder)).exit == 2
    (folder / "A.pem").write_text("no certificate")
    assert verify.verify(bundle, str(folder)).exit == 2


def test_a_flipped_bit_in_the_block(bundle: Path, trust: str) -> None:
    block = block_of(bundle)
    chance = random.Random(7)
    for position in sorted(chance.sample(range(len(block)), min(len(block), POSITIONS))):
        flipped = bytearray(block)
        flipped[position] ^= 1 << chance.randrange(8)
        put(bundle, block=bytes(flipped))
        assert verify.verify(bundle, trust).exit != 0, position
    put(bundle, block=block)
    assert verify.verify(bundle, trust).exit == 0


def test_a_flipped_bit_with_a_data_hash_that_fits(bundle: Path, trust: str, tmp_path: Path) -> None:
    """What an endorser signed is held by its own signature, not only by the block's."""
    some = tmp_path / "some"
    shutil.copytree(trust, some)
    (some / "orderers.pem").unlink()
    good = common_pb2.Block.FromString(block_of(bundle))
    payload = common_pb2.Envelope.FromString(good.data.data[0]).payload
    chance = random.Random(8)
    for position in sorted(chance.sample(range(len(payload)), POSITIONS // 2)):
        block = common_pb2.Block.FromString(good.SerializeToString())
        envelope = common_pb2.Envelope.FromString(good.data.data[0])
        flipped = bytearray(payload)
        flipped[position] ^= 1 << chance.randrange(8)
        envelope.payload = bytes(flipped)
        block.data.data[0] = envelope.SerializeToString()
        block.header.data_hash = blocks.data_hash(block)
        put(bundle, block=block.SerializeToString())
        if verify.verify(bundle, str(some)).exit == 0:
            # The second copy of the submitter's header in the action: it says nothing that is used.
            assert _is_in_the_action_header(payload, position), position


def _is_in_the_action_header(payload: bytes, position: int) -> bool:
    header = verify.inside(payload, 2, 1, 1)
    start = payload.index(header, payload.index(header) + 1)
    return start - 4 <= position < start + len(header)


def test_other_flags_and_places(bundle: Path, trust: str) -> None:
    block = block_of(bundle)
    changed(bundle, lambda one: one.metadata.metadata.__setitem__(2, b"\x0b"))
    assert status_of(bundle, trust, "Signatures") == "tampered"
    put(bundle, block=block, position=1)
    assert status_of(bundle, trust, "Signatures") == "tampered"
    put(bundle, block=block, position=0, channel="other")
    assert status_of(bundle, trust, "Signatures") == "tampered"
    put(bundle, block=block, position=0, channel="consent")
    assert verify.verify(bundle, trust).exit == 0


def test_a_block_with_another_transaction_is_not_shown_to_a_company(bundle: Path) -> None:
    """It may hold a delivery, which names the consents that were withheld."""
    evidence = json.loads((bundle / "proof.json").read_bytes())["checkpoint"]["evidence"]
    assert shown_alone(evidence)
    block = common_pb2.Block.FromString(block_of(bundle))
    block.data.data.append(block.data.data[0])
    crowded = base64.b64encode(block.SerializeToString()).decode()
    assert not shown_alone({**evidence, "block": crowded})


def test_another_number_for_the_block(bundle: Path, trust: str) -> None:
    """Only the orderer signs it."""
    changed(bundle, lambda one: setattr(one.header, "number", one.header.number + 1))
    assert status_of(bundle, trust, "Signatures") == "tampered"


def test_another_root_or_size(bundle: Path, trust: str) -> None:
    proof = json.loads((bundle / "proof.json").read_bytes())
    for name, value in (("root", "ab" * 32), ("size", 4)):
        lie = json.loads((bundle / "proof.json").read_bytes())
        lie["checkpoint"][name] = value
        (bundle / "proof.json").write_bytes(verify.canonical(lie))
        assert status_of(bundle, trust, "Signatures") == "tampered", name
    (bundle / "proof.json").write_bytes(verify.canonical(proof))
    assert verify.verify(bundle, trust).exit == 0


def test_the_manifest_names_the_roots(bundle: Path, trust: str) -> None:
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    roots = Path(trust).glob("?MSP.pem")
    ders = [x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER) for path in roots]
    assert manifest["ledger"]["keys"] == sorted(verify.sha256(der).hex() for der in ders)
