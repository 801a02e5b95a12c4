"""One organisation's forged transactions: endorsed by its own peer alone, ordered, and judged by all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fabric_protos.common import common_pb2
from fabric_protos.peer import proposal_pb2, transaction_pb2

from ledger.client import Envelope
from ledger.contract import canonical
from ledger.contract.state import Json
from ledger.fabric.client import FabricLedger
from ledger.fabric.proposals import Proposal, sign_prepared, without_transient


@dataclass
class Forger:
    """`ledger` is an identity of the organisation `org`, whose chaincode forges (`altered.py`)."""

    ledger: FabricLedger
    org: str

    def forge(self, writes: Sequence[Json]) -> str:
        """The validity that the channel gives these writes."""
        proposal = self.ledger._propose([b"Forge", canonical.dumps({"writes": list(writes)})])
        (peer,) = self.ledger._peers[self.org]
        response = peer.ask(proposal, timeout=10).result()
        assert response.response.status == 200
        data, _ = sign_prepared(self.ledger._identity, proposal, _assembled(proposal, response))
        self.ledger.send(Envelope(proposal.tx_id, data, {}))
        return self.ledger.outcome(proposal.tx_id, timeout=20).validity


def put(key: str, value: Json) -> Json:
    return {"key": key, "value": canonical.dumps(value).decode()}


def delete(key: str) -> Json:
    return {"key": key, "value": None}


def set_policy(key: str, orgs: Sequence[str]) -> Json:
    return {"key": key, "orgs": list(orgs), "value": ""}


def _assembled(proposal: Proposal, response: Any) -> Any:
    """The unsigned Envelope of a proposal with this one endorsement."""
    message = proposal_pb2.Proposal.FromString(without_transient(proposal.data))
    header = common_pb2.Header.FromString(message.header)
    endorsed = transaction_pb2.ChaincodeEndorsedAction(
        proposal_response_payload=response.payload, endorsements=[response.endorsement]
    )
    body = transaction_pb2.ChaincodeActionPayload(
        chaincode_proposal_payload=message.payload, action=endorsed
    ).SerializeToString()
    action = transaction_pb2.TransactionAction(header=header.signature_header, payload=body)
    data = transaction_pb2.Transaction(actions=[action]).SerializeToString()
    return common_pb2.Envelope(payload=common_pb2.Payload(header=header, data=data).SerializeToString())
