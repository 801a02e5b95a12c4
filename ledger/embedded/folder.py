"""The folder of an embedded ledger: its keys, its identities and its first block.

    ledger.sqlite3        blocks and state            identities.json       name -> {key, org, role}
    ledger.key, .pub      the ledger's signing key    identities/<name>.key an identity's signing key
    ledger.sock           where the process listens

Keys are 32 bytes as hex on one line; private ones have mode 0600. Where accounts are separate, each
account gets a folder with `ledger.pub`, `ledger.sock` and its own identity's key, and no more.
"""

import json
import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.contract.state import Json, Transaction
from ledger.embedded.blocks import (
    ORG,
    canonical,
    endorsement_message,
    envelope_message,
    open_envelope,
    public_hex,
    tx_id_of,
)
from ledger.embedded.commit import add_block
from ledger.embedded.simulation import Contract, Simulation
from ledger.embedded.store import Store, View
from ledger.errors import LedgerError

IDENTITIES: Mapping[str, str] = {"keyholder": "keyholder", "gateway": "gateway", "admin": "admin"}


def contract() -> Contract:
    """The rules that every ledger runs."""
    from ledger.contract.transactions import run

    return run


def make_ledger(
    folder: str | Path,
    identities: Mapping[str, str] = IDENTITIES,
    *,
    run: Contract | None = None,
    clock: Callable[[], float] = time.time,
) -> None:
    """Keys, identities (name -> role) and the first block; what exists is kept.

    The first block holds the configuration and `RegisterOrganisation` of this ledger's one organisation.
    """
    folder = Path(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "identities").mkdir(mode=0o700, exist_ok=True)
    key = _make_key(folder / "ledger.key")
    if not (folder / "ledger.pub").exists():
        _write(folder / "ledger.pub", public_hex(key) + "\n", mode=0o644)
    if not (folder / "identities.json").exists():
        listed = {
            name: {"key": public_hex(_make_key(identity_path(folder, name))), "org": ORG, "role": role}
            for name, role in identities.items()
        }
        _write(folder / "identities.json", json.dumps(listed, indent=2, sort_keys=True) + "\n", mode=0o644)
    if not (folder / "ledger.sqlite3").exists():
        _make_first_block(folder, run or contract(), int(clock()))


def _make_first_block(folder: Path, run: Contract, now: int) -> None:
    """Written beside its place and moved there whole."""
    path = folder / "ledger.sqlite3.new"
    for left in folder.glob("ledger.sqlite3.new*"):
        left.unlink()
    key, config = read_key(folder / "ledger.key"), read_config(folder)
    store = Store.create(path)
    try:
        administrators = [name for name, one in config["identities"].items() if one["role"] == "admin"]
        with store.writing() as writing:
            transactions = []
            if administrators:
                proposal = new_proposal("RegisterOrganisation", {"org": ORG}, administrators[0], now)
                signer = read_key(identity_path(folder, administrators[0]))
                body = simulate(writing, run, proposal, config, {})
                endorsements = [endorse(body, key)]
                data = seal_envelope(body, endorsements, signer)
                transactions.append(open_envelope(data, config))
            add_block(writing, transactions, time=now, key=key, config=config)
    finally:
        store.close()
    path.rename(folder / "ledger.sqlite3")


def new_proposal(name: str, args: Json, identity: str, now: int) -> Json:
    return {
        "args": args,
        "identity": identity,
        "name": name,
        "nonce": secrets.token_hex(32),
        "time": now,
        "version": 1,
    }


def simulate(view: View, run: Contract, proposal: Json, config: Json, transient: Mapping[str, bytes]) -> Json:
    """Run the contract on the state in `view`; the body to endorse. Raises Refused, PrepareError."""
    identity = config["identities"][proposal["identity"]]
    simulation = Simulation(view)
    result = run(
        simulation,
        Transaction(
            name=proposal["name"],
            args=proposal["args"],
            tx_id=tx_id_of(proposal),
            time=proposal["time"],
            org=identity["org"],
            role=identity["role"],
            transient=transient,
        ),
    )
    return simulation.body(proposal, result)


def endorse(body: Json, key: Ed25519PrivateKey) -> Json:
    signature = key.sign(endorsement_message(body)).hex()
    return {"key": public_hex(key), "org": ORG, "signature": signature}


def seal_envelope(body: Json, endorsements: list[Json], signer: Ed25519PrivateKey) -> bytes:
    signature = signer.sign(envelope_message(body, endorsements)).hex()
    return canonical({"body": body, "endorsements": endorsements, "signature": signature})


# Files


def identity_path(folder: Path, name: str) -> Path:
    return folder / "identities" / f"{name}.key"


def read_key(path: Path) -> Ed25519PrivateKey:
    """A private key. Raises LedgerError."""
    try:
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text().strip()))
    except OSError as error:
        raise LedgerError(f"{path.name} cannot be read: {error.strerror}.", code="ledger_no_key") from None
    except ValueError:
        raise LedgerError(f"{path.name} does not hold a key.", code="ledger_no_key") from None


def read_public_key(folder: Path) -> str:
    """The ledger's public key, hex. Raises LedgerError."""
    try:
        text = (folder / "ledger.pub").read_text().strip()
        if len(bytes.fromhex(text)) == 32:
            return text.lower()
    except OSError as error:
        raise LedgerError(f"ledger.pub cannot be read: {error.strerror}.", code="ledger_no_key") from None
    except ValueError:
        pass
    raise LedgerError("ledger.pub does not hold a key.", code="ledger_no_key")


def read_config(folder: Path) -> Json:
    """What the chain's configuration should be, by this folder's files. Raises LedgerError."""
    try:
        listed = json.loads((folder / "identities.json").read_text())
        identities = {
            name: {"key": str(one["key"]), "org": str(one["org"]), "role": str(one["role"])}
            for name, one in listed.items()
        }
    except OSError as error:
        message = f"identities.json cannot be read: {error.strerror}."
        raise LedgerError(message, code="ledger_no_identities") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        message = "identities.json is malformed."
        raise LedgerError(message, code="ledger_no_identities") from None
    return {"identities": identities, "ledger": read_public_key(folder), "org": ORG}


def _make_key(path: Path) -> Ed25519PrivateKey:
    if not path.exists():
        _write(path, Ed25519PrivateKey.generate().private_bytes_raw().hex() + "\n", mode=0o600)
    return read_key(path)


def _write(path: Path, text: str, *, mode: int) -> None:
    """A file that is there whole or not at all."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
