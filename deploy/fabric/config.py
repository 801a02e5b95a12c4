"""What Fabric's processes are told: the stock core.yaml and orderer.yaml with our values, and configtx.yaml.

YAML is a superset of JSON, so JSON is what we write.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HOST = "127.0.0.1"
BUILDER = Path(__file__).parent / "builder"


@dataclass(frozen=True)
class Node:
    """A peer or an orderer: its organisation, its folder of certificates, its three ports."""

    name: str
    msp: str
    crypto: str
    port: int
    other_port: int  # a peer's chaincode listener, an orderer's admin listener
    operations_port: int

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path`, whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, default=str))


def write_peer(stock: Path, folder: Path, node: Node) -> None:
    """`core.yaml` in `folder`; the peer keeps its data in `folder`/data."""
    core = yaml.safe_load((stock / "core.yaml").read_text())
    crypto = Path(node.crypto)
    peer = core["peer"]
    chaincode_address = f"{HOST}:{node.other_port}"
    peer |= {
        "id": node.name,
        "networkId": "consent",
        "listenAddress": node.address,
        "address": node.address,
        "chaincodeListenAddress": chaincode_address,
        "chaincodeAddress": chaincode_address,
        "localMspId": node.msp,
        "mspConfigPath": str(crypto / "msp"),
        "fileSystemPath": str(folder / "data"),
    }
    peer["tls"] |= {
        "enabled": True,
        "cert": {"file": str(crypto / "tls.pem")},
        "key": {"file": str(crypto / "tls.key")},
        "rootcert": {"file": str(crypto / "msp/tlscacerts/tlsca.pem")},
    }
    # The defaults make the first half minute fail: peers learn of each other's chaincode by gossip.
    peer["gossip"] |= {
        "bootstrap": node.address,
        "endpoint": node.address,
        "externalEndpoint": node.address,
        "reconnectInterval": "1s",
        "publishStateInfoInterval": "1s",
        "requestStateInfoInterval": "1s",
        "aliveTimeInterval": "1s",
        "aliveExpirationTimeout": "5s",
    }
    # A peer that lost its orderer tries again soon: a stop must not wait.
    peer.setdefault("deliveryclient", {})["reconnectBackoffThreshold"] = "2s"
    core["vm"]["endpoint"] = ""
    core["operations"]["listenAddress"] = f"{HOST}:{node.operations_port}"
    core["ledger"]["snapshots"]["rootDir"] = str(folder / "data" / "snapshots")
    core["chaincode"]["externalBuilders"] = [
        {"name": "ccaas", "path": str(BUILDER), "propagateEnvironment": []}
    ]
    write_json(folder / "core.yaml", core)


def write_orderer(stock: Path, folder: Path, node: Node, cluster_roots: list[str]) -> None:
    """`orderer.yaml` in `folder`; `cluster_roots` are the TLS roots of all orderers."""
    orderer = yaml.safe_load((stock / "orderer.yaml").read_text())
    crypto = Path(node.crypto)
    pair = {"Certificate": str(crypto / "tls.pem"), "PrivateKey": str(crypto / "tls.key")}
    general = orderer["General"]
    general |= {
        "ListenAddress": HOST,
        "ListenPort": node.port,
        "BootstrapMethod": "none",
        "LocalMSPID": node.msp,
        "LocalMSPDir": str(crypto / "msp"),
    }
    general["TLS"] |= {"Enabled": True, "RootCAs": cluster_roots, **pair}
    general["Cluster"] |= {
        "ClientCertificate": pair["Certificate"],
        "ClientPrivateKey": pair["PrivateKey"],
        "RootCAs": cluster_roots,
    }
    orderer["Admin"] = {
        "ListenAddress": f"{HOST}:{node.other_port}",
        "TLS": {"Enabled": True, "ClientAuthRequired": True, "ClientRootCAs": cluster_roots, **pair},
    }
    orderer.setdefault("ChannelParticipation", {})["Enabled"] = True
    orderer["FileLedger"]["Location"] = str(folder / "data" / "ledger")
    orderer["Consensus"] = {"WALDir": str(folder / "data" / "wal"), "SnapDir": str(folder / "data" / "snap")}
    orderer["Operations"]["ListenAddress"] = f"{HOST}:{node.operations_port}"
    write_json(folder / "orderer.yaml", orderer)


def organisation(msp: str, msp_folder: Path, peer: Node) -> dict[str, Any]:
    """One member as configtx.yaml and `configtxgen -printOrg` want it."""

    def signed_by(*roles: str) -> dict[str, str]:
        return {"Type": "Signature", "Rule": f"OR({', '.join(repr(f'{msp}.{role}') for role in roles)})"}

    return {
        "Name": msp,
        "ID": msp,
        "MSPDir": str(msp_folder),
        "Policies": {
            "Readers": signed_by("admin", "peer", "client"),
            "Writers": signed_by("admin", "client"),
            "Admins": signed_by("admin"),
            "Endorsement": signed_by("peer"),
        },
        "AnchorPeers": [{"Host": HOST, "Port": peer.port}],
    }


def write_configtx(
    path: Path,
    *,
    members: list[dict[str, Any]],
    orderer_msp: Path,
    orderers: list[Node],
    bft: bool,
    batch_timeout: str,
) -> None:
    """configtx.yaml with one profile, `Channel`."""
    any_majority = {
        "Readers": {"Type": "ImplicitMeta", "Rule": "ANY Readers"},
        "Writers": {"Type": "ImplicitMeta", "Rule": "ANY Writers"},
        "Admins": {"Type": "ImplicitMeta", "Rule": "MAJORITY Admins"},
    }
    msp = orderers[0].msp
    ordering = {
        "Name": msp,
        "ID": msp,
        "MSPDir": str(orderer_msp),
        "Policies": {
            "Readers": {"Type": "Signature", "Rule": f"OR('{msp}.member')"},
            "Writers": {"Type": "Signature", "Rule": f"OR('{msp}.member')"},
            "Admins": {"Type": "Signature", "Rule": f"OR('{msp}.admin')"},
        },
        "OrdererEndpoints": [node.address for node in orderers],
    }
    consenters = [
        {
            "Host": HOST,
            "Port": node.port,
            "ClientTLSCert": f"{node.crypto}/tls.pem",
            "ServerTLSCert": f"{node.crypto}/tls.pem",
        }
        for node in orderers
    ]
    orderer: dict[str, Any] = {
        "OrdererType": "BFT" if bft else "etcdraft",
        "BatchTimeout": batch_timeout,
        "BatchSize": {"MaxMessageCount": 500, "AbsoluteMaxBytes": "10 MB", "PreferredMaxBytes": "2 MB"},
        "MaxChannels": 0,
        "Organizations": [ordering],
        "Policies": {
            **any_majority,
            "BlockValidation": {"Type": "ImplicitMeta", "Rule": "ANY Writers"},
        },
        "Capabilities": {"V2_0": True},
    }
    if bft:
        orderer["ConsenterMapping"] = [
            {
                "ID": number,
                "MSPID": msp,
                "Identity": f"{node.crypto}/msp/signcerts/cert.pem",
                **consenter,
            }
            for number, (node, consenter) in enumerate(zip(orderers, consenters, strict=True), 1)
        ]
        orderer["SmartBFT"] = {
            "RequestBatchMaxCount": 500,
            "RequestBatchMaxInterval": batch_timeout,
            "RequestForwardTimeout": "2s",
            "RequestComplainTimeout": "10s",
            "RequestAutoRemoveTimeout": "1m0s",
            "ViewChangeResendInterval": "2s",
            "ViewChangeTimeout": "10s",
            "LeaderHeartbeatTimeout": "10s",
            "CollectTimeout": "1s",
            "RequestBatchMaxBytes": 10485760,
            "IncomingMessageBufferSize": 200,
            "RequestPoolSize": 100000,
            "LeaderHeartbeatCount": 10,
        }
    else:
        orderer["EtcdRaft"] = {
            "Consenters": consenters,
            "Options": {
                "TickInterval": "100ms",
                "ElectionTick": 10,
                "HeartbeatTick": 1,
                "MaxInflightBlocks": 5,
                "SnapshotIntervalSize": "16 MB",
            },
        }
    profile = {
        "Policies": any_majority,
        "Capabilities": {"V3_0" if bft else "V2_0": True},
        "Orderer": orderer,
        "Application": {
            "Organizations": members,
            "Policies": {
                **any_majority,
                "LifecycleEndorsement": {"Type": "ImplicitMeta", "Rule": "MAJORITY Endorsement"},
                "Endorsement": {"Type": "ImplicitMeta", "Rule": "MAJORITY Endorsement"},
            },
            "Capabilities": {"V2_5": True},
        },
    }
    write_json(path, {"Profiles": {"Channel": profile}})
