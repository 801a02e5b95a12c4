"""The permitted records of one patient as a typed table, each row with the resource that it came from."""

import json
from typing import Any

import msgspec

from gateway.analysis.features import Table
from gateway.bench.open_and_parse import CHUNK, PATIENT, RESOURCES, SUBJECT, SealedSelection
from gateway.keyholder import envelope


class _Coding(msgspec.Struct, gc=False):
    system: str
    code: str


class _Concept(msgspec.Struct, gc=False):
    coding: list[_Coding]


class _Quantity(msgspec.Struct, gc=False):
    value: float
    code: str


class _Observation(msgspec.Struct, gc=False, rename="camel"):
    code: _Concept
    effective_date_time: str
    value_quantity: _Quantity


class FeatureTable(SealedSelection):
    name = "typed feature table"
    unit = "resources"
    goal = "≥ 0.80 of the limit, ≥ 30 × the peer"
    product_is = f"unwrap, open, and a row with time, unit and source for each of {RESOURCES:,} Observations"
    peer_is = "Fernet for each record, json, dict access"
    limit_is = "one decryption, a typed msgspec scan of four fields, no time read and no digest"

    def product(self) -> int:
        table = Table()
        for wrapped, blob in self._chunks:
            dek = self._unwrapper.unwrap(wrapped, subject=SUBJECT, chunk=CHUNK, version=1)
            table.add_chunk(envelope.open_chunk(dek, blob, patient=PATIENT, chunk=CHUNK, version=1), SUBJECT)
        return sum(1 for _ in table)

    def peer(self) -> int:
        return len([_row(json.loads(self._fernet.decrypt(one))) for one in self._records])

    def limit(self) -> int:
        decode = msgspec.json.Decoder(_Observation).decode
        opened = envelope.unseal(self._key, self._whole, b"")
        found = []
        for line in opened.split(b"\n"):
            one = decode(line)
            coding = one.code.coding[0]
            found.append((coding.system, coding.code, one.effective_date_time, one.value_quantity.value))
        return len(found)


def _row(body: dict[str, Any]) -> tuple[Any, ...]:
    coding = body["code"]["coding"][0]
    return coding["system"], coding["code"], body["effectiveDateTime"], body["valueQuantity"]["value"]


ROW = FeatureTable()
