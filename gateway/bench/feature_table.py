"""The permitted records of one patient as a typed table, each row with the resource that it came from."""

import hashlib
import importlib
import json
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from gateway.analysis.catalogue.units import UCUM, UnknownUnit, convert
from gateway.analysis.features import KINDS, Row, Span, Table, Units
from gateway.bench import NotInstalled
from gateway.bench.open_and_parse import CHUNK, PATIENT, RESOURCES, SUBJECT, SealedSelection
from gateway.keyholder import envelope
from ledger.contract import times


class _Coding(msgspec.Struct, gc=False):
    system: str
    code: str


class _Concept(msgspec.Struct, gc=False):
    coding: list[_Coding]


class _Quantity(msgspec.Struct, gc=False):
    value: float
    system: str
    code: str
    comparator: str | None = None


class _Meta(msgspec.Struct, gc=False, rename="camel"):
    version_id: str = ""
    last_updated: str = ""


class _Observation(msgspec.Struct, gc=False, rename="camel"):
    """What a table has to look at, be it there or not."""

    id: str
    status: str
    code: _Concept
    effective_date_time: str
    value_quantity: _Quantity
    meta: _Meta
    effective_instant: str = ""
    effective_period: msgspec.Raw = msgspec.Raw()
    value_codeable_concept: msgspec.Raw = msgspec.Raw()
    component: msgspec.Raw = msgspec.Raw()


class FeatureTable(SealedSelection):
    name = "typed feature table"
    unit = "resources"
    goal = "≥ 0.80 of the limit, ≥ 30 × the peer"
    product_is = f"unwrap, open, and an Arrow table with time, unit and source of {RESOURCES:,} Observations"
    peer_is = "Fernet for each record, json, dict access: the same rows"
    limit_is = (
        "one decryption, a typed msgspec scan of what may be in the table, SHA-256 of each, Arrow columns, "
        "as if each had one coding, one value in UCUM and one version, unsorted"
    )

    def before(self, path: str) -> None:
        if path != "peer":
            try:
                importlib.import_module("pyarrow")
            except ImportError:
                raise NotInstalled("not installed: the extra `features`") from None

    def product(self) -> int:
        table = Table()
        for wrapped, blob in self._chunks:
            dek = self._unwrapper.unwrap(wrapped, subject=SUBJECT, chunk=CHUNK, version=1)
            table.add_chunk(envelope.open_chunk(dek, blob, patient=PATIENT, chunk=CHUNK, version=1), SUBJECT)
        return int(table.to_arrow().num_rows)

    def peer(self) -> int:
        return len(plain_rows((SUBJECT, self._fernet.decrypt(one)) for one in self._records))

    def limit(self) -> int:
        import pyarrow as pa

        opened = envelope.unseal(self._key, self._whole, b"")
        digests = [hashlib.sha256(line).hexdigest() for line in opened.split(b"\n")]
        found = msgspec.json.Decoder(_Observation).decode_lines(opened)
        second = lru_cache(maxsize=None)(_second)
        starts = [second(one.effective_date_time) for one in found]
        text, moment = pa.string(), pa.timestamp("s", tz="UTC")
        nothing = pa.nulls(len(found), text)
        columns = {
            "subject": pa.repeat(SUBJECT, len(found)),
            "kind": pa.repeat("observation", len(found)),
            "system": pa.array([one.code.coding[0].system for one in found], text),
            "code": pa.array([one.code.coding[0].code for one in found], text),
            "start": pa.array(starts, moment),
            "end": pa.array([start + 1 for start in starts], moment),
            "value": pa.array([one.value_quantity.value for one in found], pa.float64()),
            "unit": pa.array([one.value_quantity.code for one in found], text),
            "comparator": pa.array([one.value_quantity.comparator for one in found], text),
            "value_system": nothing,
            "value_code": nothing,
            "status": pa.array([one.status for one in found], text),
            "problem": nothing,
            "source": pa.array([f"Observation/{one.id}" for one in found], text),
            "digest": pa.array(digests, text),
        }
        return int(pa.table(columns).num_rows)


def _second(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def plain_rows(received: Iterable[tuple[str, bytes]], units: Units | None = None) -> list[Row]:
    """The rows of `(subject, resource as received)`, as one would write it down: json and dict access.

    It is what one would use instead, and what the table is held to (tests/analysis/test_features.py).
    """
    newest: dict[tuple[str, str], tuple[tuple[str, int], list[Row]]] = {}
    for subject, raw in received:
        body = json.loads(raw)
        if body["resourceType"] in KINDS:
            source = f"{body['resourceType']}/{body['id']}"
            meta = body.get("meta", {})
            version = meta.get("versionId", "")
            stamp = (meta.get("lastUpdated", ""), int(version) if version.isdecimal() else 0)
            if (subject, source) not in newest or stamp >= newest[subject, source][0]:
                digest = hashlib.sha256(raw).hexdigest()
                newest[subject, source] = (stamp, _rows(body, subject, source, digest, units or {}))
    return [row for _, (_, rows) in sorted(newest.items()) for row in rows]


def _rows(body: dict[str, Any], subject: str, source: str, digest: str, units: Units) -> list[Row]:
    kind = KINDS[body["resourceType"]]
    status, problem = body.get("status"), None
    if kind == "condition":
        status = _first(body.get("clinicalStatus", {})).get("code")
    rows = []
    for part in (body, *body.get("component", ())):
        concept, quantity = part.get("code", {}), part.get("valueQuantity", {})
        if kind == "medication":
            concept = body.get("medicationCodeableConcept", {})
            problem = None if concept else "by_reference"
        answer = _first(part.get("valueCodeableConcept", {}))
        for coding in concept.get("coding") or [{}]:
            system, code = coding.get("system"), coding.get("code")
            value, unit, doubt = _quantity(quantity, units.get(f"{system}|{code}"))
            rows.append(
                Row(
                    subject, kind, system, code, *_span(body), value, unit, quantity.get("comparator"),
                    answer.get("system"), answer.get("code"), status, problem or doubt, source, digest,
                )
            )  # fmt: skip
    return rows


def _first(concept: dict[str, Any]) -> dict[str, Any]:
    """Its first coding."""
    return next(iter(concept.get("coding", ())), {})


def _quantity(quantity: dict[str, Any], wanted: str | None) -> tuple[float | None, str | None, str | None]:
    if "value" not in quantity:
        return None, None, None
    value, unit = float(quantity["value"]), quantity.get("code")
    if quantity.get("system") != UCUM or unit is None:
        return (None if wanted else value), None, "not_ucum"
    try:
        return float(convert(Decimal(repr(value)), unit=unit, to=wanted or unit)), wanted or unit, None
    except UnknownUnit:
        return None, wanted, "unknown_unit"


def _span(body: dict[str, Any]) -> Span:
    for name in ("effectiveDateTime", "effectiveInstant", "onsetDateTime", "authoredOn"):
        if body.get(name):
            return times.span(body[name]) or (None, None)
    period = body.get("effectivePeriod") or body.get("onsetPeriod") or {}
    first = period.get("start") or period.get("end") or body.get("recordedDate")
    last = period.get("end") or period.get("start") or body.get("recordedDate")
    start, end = times.span(first), times.span(last)
    return (start[0], end[1]) if start and end else (None, None)


ROW = FeatureTable()
