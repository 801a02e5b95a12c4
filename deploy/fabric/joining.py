"""Adding a member to a running channel: Fabric's configuration update, signed by the administrators."""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.fabric.commands import Commands
from deploy.fabric.config import write_json

CONFIG_UPDATE = 2  # common.HeaderType


def add_member(
    commands: Commands,
    work: Path,
    *,
    channel: str,
    member: Mapping[str, Any],
    orderer: Sequence[str],
    signers: Sequence[Mapping[str, str]],
) -> None:
    """Fetch the configuration, add `member` (as configtx.yaml has it), have `signers` sign, submit.

    `signers` are the environments of the members' administrators; `work` is a folder for the steps between.
    Raises NetworkError.
    """
    first, *others = signers
    ordering = [*orderer, "-c", channel]
    # 1. The configuration as it is.
    commands.run(["peer", "channel", "fetch", "config", str(work / "current.block"), *ordering], first)
    block = _decode(commands, "common.Block", work / "current.block")
    current = block["data"]["data"][0]["payload"]["data"]["config"]
    # 2. As it shall be: the member's policies, roots and anchor peer beside the others'.
    write_json(work / "new" / "configtx.yaml", {"Organizations": [member]})
    printed = commands.run(
        ["configtxgen", "-printOrg", member["Name"]], {"FABRIC_CFG_PATH": str(work / "new")}
    )
    entry = json.loads(printed)
    anchors = [{"host": peer["Host"], "port": peer["Port"]} for peer in member["AnchorPeers"]]
    entry["values"]["AnchorPeers"] = {
        "mod_policy": "Admins",
        "value": {"anchor_peers": anchors},
        "version": "0",
    }
    updated = copy.deepcopy(current)
    updated["channel_group"]["groups"]["Application"]["groups"][member["Name"]] = entry
    # 3. The difference, in an envelope.
    _encode(commands, "common.Config", current, work / "current.pb")
    _encode(commands, "common.Config", updated, work / "updated.pb")
    files = {"original": "current.pb", "updated": "updated.pb", "output": "update.pb"}
    named = [part for name, file in files.items() for part in (f"--{name}", str(work / file))]
    commands.run(["configtxlator", "compute_update", "--channel_id", channel, *named], {})
    update = _decode(commands, "common.ConfigUpdate", work / "update.pb")
    header = {"channel_header": {"channel_id": channel, "type": CONFIG_UPDATE}}
    envelope = {"payload": {"header": header, "data": {"config_update": update}}}
    signed = work / "update.envelope"
    _encode(commands, "common.Envelope", envelope, signed)
    # 4. Signed by the others; who submits signs with that.
    for signer in others:
        commands.run(["peer", "channel", "signconfigtx", "-f", str(signed)], signer)
    commands.run(["peer", "channel", "update", "-f", str(signed), *ordering], first)


def _decode(commands: Commands, kind: str, path: Path) -> Any:
    return json.loads(
        commands.run(["configtxlator", "proto_decode", "--type", kind, "--input", str(path)], {})
    )


def _encode(commands: Commands, kind: str, value: Any, path: Path) -> None:
    source = path.with_suffix(".json")
    write_json(source, value)
    files = ["--input", str(source), "--output", str(path)]
    commands.run(["configtxlator", "proto_encode", "--type", kind, *files], {})
