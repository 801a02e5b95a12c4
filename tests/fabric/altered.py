"""A chaincode that one organisation altered: besides the contract it writes whatever it is told."""

import sys
from typing import Any

from fabric_protos.peer import chaincode_shim_pb2

from ledger.chaincode import Chaincode, arguments, contract, serve
from ledger.shim import Response, Stub, Type


class Altered(Chaincode):
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


if __name__ == "__main__":
    sys.exit(serve(Altered(contract())))
