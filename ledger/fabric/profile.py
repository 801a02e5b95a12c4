"""The connection profile: one JSON file that says where a channel is and whom we believe on it.

    {"channel": name, "chaincode": name, "needed": m,
     "organisations": {MSP id: {"roots": [file], "tls_roots": file, "peers": [host:port]}},
     "orderers": {"roots": [file]},
     "identities": {name: {"organisation": MSP id, "certificate": file, "key": file | key in an HSM}}}

A key in an HSM is `{"module": file, "token": label, "label": text, "id": hex, "pin_env": name, "pin_file":
file}`: of label and id one or both, of the two places of the PIN one (`ledger/fabric/hsm.py`).

Files are PEM, named relative to the profile's folder. `needed` is how many organisations must answer a
signed read before anything is opened. `orderers` may be absent: then nobody checks who ordered a block.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ledger.fabric.hsm import Token
from ledger.fabric.identity import Identity


@dataclass(frozen=True)
class Organisation:
    """One member of the channel: its pinned roots (PEM), and where its peers listen."""

    name: str
    roots: tuple[bytes, ...]
    tls_roots: bytes
    peers: tuple[str, ...]


@dataclass(frozen=True)
class Profile:
    """The parsed file. `identities` are loaded one by one: a process may read only its own key."""

    channel: str
    chaincode: str
    needed: int
    organisations: Mapping[str, Organisation]
    orderer_roots: tuple[bytes, ...]
    _identities: Mapping[str, tuple[str, Path, Path | Token]]

    @classmethod
    def load(cls, path: str | Path) -> "Profile":
        """Raises ValueError, naming what is wrong, when the profile cannot be trusted to mean anything."""
        path = Path(path)
        try:
            raw = json.loads(path.read_bytes())
            organisations = {
                name: Organisation(
                    name=name,
                    roots=tuple((path.parent / root).read_bytes() for root in entry["roots"]),
                    tls_roots=(path.parent / entry["tls_roots"]).read_bytes(),
                    peers=tuple(entry["peers"]),
                )
                for name, entry in raw["organisations"].items()
            }
            identities = {
                name: (
                    str(entry["organisation"]),
                    path.parent / entry["certificate"],
                    Token.read(entry["key"], path.parent)
                    if isinstance(entry["key"], dict)
                    else path.parent / entry["key"],
                )
                for name, entry in raw["identities"].items()
            }
            profile = cls(
                channel=str(raw["channel"]),
                chaincode=str(raw["chaincode"]),
                needed=int(raw["needed"]),
                organisations=organisations,
                orderer_roots=tuple(
                    (path.parent / root).read_bytes() for root in raw.get("orderers", {}).get("roots", ())
                ),
                _identities=identities,
            )
        except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"The Fabric connection profile cannot be read: {error}") from error
        if not 1 <= profile.needed <= len(organisations):
            raise ValueError(
                "The Fabric connection profile's `needed` must be 1 to the number of organisations."
            )
        if not all(entry.roots and entry.peers for entry in organisations.values()):
            raise ValueError("Every organisation of the Fabric connection profile needs roots and a peer.")
        return profile

    @property
    def own(self) -> str:
        """The organisation of the identity `keyholder`; empty where the profile has none."""
        return self._identities["keyholder"][0] if "keyholder" in self._identities else ""

    def identity(self, name: str) -> Identity:
        """Load one identity's certificate and key. Raises ValueError."""
        if name not in self._identities:
            raise ValueError("The Fabric connection profile has no identity of that name.")
        organisation, certificate, key = self._identities[name]
        if organisation not in self.organisations:
            raise ValueError("The identity's organisation is not in the Fabric connection profile.")
        try:
            if isinstance(key, Token):
                return Identity.from_token(organisation, certificate, key)
            return Identity.from_files(organisation, certificate, key)
        except OSError as error:
            raise ValueError(f"The identity's certificate or key cannot be read: {error.strerror}") from error
