"""Chaincode as one organisation might alter it: `python -m gateway.drills.altered forging|other-version`.

`forging` writes whatever it is told besides running the contract; `other-version` is the contract under
another version number, as when one organisation has upgraded and the other has not.
"""

import sys
from typing import Any

from fabric_protos.peer import chaincode_shim_pb2

from ledger.chaincode import Chaincode, arguments, contract, serve
from ledger.contract import version
from ledger.shim import Response, Stub, Type


class Forging(Chaincode):
    """`Forge {"writes": [{"key", "value": text or null for a deletion, "orgs": [MSP ids] or null}]}`."""

    def invoke(self, stub: Stub) -> Response:
        name, args = arguments(stub)
        if name != "Forge":
            return super().invoke(stub)
        for write in args["writes"]:
            self._forge(stub, write)
        return Response(200, b"{}")

    @staticmethod
    def _forge(stub: Stub, write: dict[str, Any]) -> None:
        key = write["key"]
        if write.get("orgs"):
            stub.require(key, 1, write["orgs"])
        elif write["value"] is None:
            stub._ask(Type.DEL_STATE, chaincode_shim_pb2.DelState(key=key))
        else:
            stub.put(key, write["value"].encode())


def main(how: str) -> int:
    if how == "forging":
        return serve(Forging(contract()))
    version.CONTRACT_VERSION = "0.0.0"
    return serve(Chaincode(contract()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
