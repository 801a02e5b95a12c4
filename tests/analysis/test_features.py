"""Records as a typed table: values, units, times, and the resource that each row came from."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from django.core.management import call_command
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from gateway.analysis.catalogue.evidence import Evidence, Resource
from gateway.analysis.features import Row, Table, of_chunks
from gateway.bench.feature_table import plain_rows
from gateway.records.lines import pack
from ledger.contract import times
from tests.records.conftest import patient

UCUM = "http://unitsofmeasure.org"
LOINC = "http://loinc.org"
CHOLESTEROL = f"{LOINC}|2093-3"


def result(id: str = "o1", value: Any = 193.34, unit: str = "mg/dL", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": "2093-3"}]},
        "subject": {"reference": "Patient/alice-1"},
        "effectiveDateTime": "2026-01-02T10:00:00+01:00",
        "valueQuantity": {"value": value, "unit": unit, "system": UCUM, "code": unit},
        **more,
    }


def rows(*bodies: dict[str, Any], **units: str) -> list[Row]:
    wanted = {CHOLESTEROL: units["unit"]} if units else {}
    return list(of_chunks([pack(json.dumps(one).encode() for one in bodies)], "alice", wanted))


def test_a_result_has_its_value_unit_time_and_source() -> None:
    raw = json.dumps(result()).encode()
    table = Table()
    table.add_chunk(pack([raw]), "alice")
    (row,) = table
    assert (row.subject, row.kind, row.system, row.code) == ("alice", "observation", LOINC, "2093-3")
    assert (row.value, row.unit, row.status, row.problem) == (193.34, "mg/dL", "final", None)
    assert (row.start, row.end) == (1767344400, 1767344401)
    assert (row.source, row.digest) == ("Observation/o1", hashlib.sha256(raw).hexdigest())


def test_the_digest_is_of_the_bytes_as_received() -> None:
    raw = json.dumps(result(), indent=1).encode()
    (row,) = of_chunks([pack([raw])], "alice")
    assert row.digest == hashlib.sha256(raw).hexdigest()


def test_units_are_converted_by_ucum_where_one_is_wanted() -> None:
    (row,) = rows(result(value=1.5, unit="g/L"), unit="mg/dL")
    assert (row.value, row.unit, row.problem) == (150.0, "mg/dL", None)
    (row,) = rows(result(unit="kg"), unit="mg/dL")
    assert (row.value, row.unit, row.problem) == (None, "mg/dL", "unknown_unit")
    (row,) = rows(result(valueQuantity={"value": 5, "unit": "mg/dL"}), unit="mg/dL")
    assert (row.value, row.problem) == (None, "not_ucum")


def test_components_answers_bounds_conditions_and_orders() -> None:
    pressure = result("bp", component=[
        {"code": {"coding": [{"system": LOINC, "code": "8480-6"}]},
         "valueQuantity": {"value": 120, "unit": "mmHg", "system": UCUM, "code": "mm[Hg]"}},
    ])  # fmt: skip
    del pressure["valueQuantity"]
    smoking = result("s", valueCodeableConcept={"coding": [{"system": LOINC, "code": "LA18978-9"}]})
    del smoking["valueQuantity"]
    bound = result("b")
    bound["valueQuantity"]["comparator"] = "<"
    condition = {
        "resourceType": "Condition", "id": "c", "onsetDateTime": "2020",
        "clinicalStatus": {"coding": [{"code": "active"}]},
        "code": {"coding": [{"system": "x", "code": "1"}, {"system": "y", "code": "2"}]},
    }  # fmt: skip
    order = {"resourceType": "MedicationRequest", "id": "m", "status": "active", "authoredOn": "2026-01",
             "medicationReference": {"reference": "Medication/1"}}  # fmt: skip
    found = {(row.source, row.code): row for row in rows(pressure, smoking, bound, condition, order)}
    assert found["Observation/bp", "2093-3"].value is None
    assert found["Observation/bp", "8480-6"].value == 120
    assert found["Observation/s", "2093-3"].value_code == "LA18978-9"
    assert found["Observation/b", "2093-3"].comparator == "<"
    assert {found["Condition/c", code].status for code in ("1", "2")} == {"active"}
    year = found["Condition/c", "1"]
    assert ((year.end or 0) - (year.start or 0)) == 366 * 86_400
    assert found["MedicationRequest/m", None].problem == "by_reference"


def people(sample_data: Path) -> Iterator[tuple[str, list[bytes]]]:
    """Each sample's resources as received: Synthea's over several lines."""
    for path in sorted((sample_data / "synthea-2019-bundles").glob("*.json")):
        entries = json.loads(path.read_bytes())["entry"]
        yield path.stem, [json.dumps(entry["resource"], indent=1).encode() for entry in entries]
    for path in sorted((sample_data / "carebundle-bulk").glob("*.ndjson")):
        yield "everyone", path.read_bytes().splitlines()


def test_the_samples_give_what_a_plain_reading_gives(sample_data: Path) -> None:
    units = {"2093-3": "g/L", "2085-9": "mg/dL", "38483-4": "kg", "8302-2": "m"}
    wanted = {f"{LOINC}|{code}": unit for code, unit in units.items()}
    table, received = Table(wanted), []
    for subject, resources in people(sample_data):
        table.add_chunk(pack(resources), subject)
        received += [(subject, resource) for resource in resources]
    found = list(table)
    assert found == plain_rows(received, wanted)
    assert len(found) > 3000
    assert len({row.unit for row in found}) > 10
    assert table.to_arrow().to_pylist() == [as_arrow_tells(row) for row in found]


def as_arrow_tells(row: Row) -> dict[str, Any]:
    times = {
        name: None if at is None else datetime.fromtimestamp(at, UTC)
        for name, at in (("start", row.start), ("end", row.end))
    }
    return {**row._asdict(), **times}


def test_odd_resources_give_what_a_plain_reading_gives() -> None:
    coding, other = {"system": LOINC, "code": "2093-3"}, {"system": "urn:own", "code": "chol"}
    part = {"code": {"coding": [other, coding]}, "valueQuantity": {"value": 2, "system": UCUM, "code": "g/L"}}
    period = {"start": "2026-01-01", "end": "2026-01-03T10:00:60Z"}
    bodies = [
        result("codes", code={"coding": [coding, other]}),
        result("twice", code={"coding": [coding, coding]}, value=1.25, unit="g/L"),
        result("text", code={"text": "cholesterol"}),
        result("panel", component=[part, {"code": {"text": "none"}}, {**part, "valueCodeableConcept": {}}]),
        result("unit", valueQuantity={"value": 5, "comparator": ">", "unit": "mg"}),
        result("no value", valueQuantity={"comparator": "<", "system": UCUM, "code": "g/L"}),
        result("answer", valueQuantity={}, valueCodeableConcept={"coding": [other, coding]}),
        result("wrong unit", unit="no such unit"),
        result("period", effectiveDateTime="", effectivePeriod=period),
        result("no day", effectiveDateTime="2026-02-30T10:00:00Z"),
        result("no zone", effectiveDateTime="2026-02-03T10:00:00"),
        {"resourceType": "Condition", "id": "bare"},
        {"resourceType": "Condition", "id": "since", "onsetPeriod": {"start": "2026"}, "code": {}},
        {"resourceType": "Condition", "id": "noted", "recordedDate": "2026-03", "code": {"coding": [other]}},
        {"resourceType": "MedicationRequest", "id": "drug", "authoredOn": "2026-03-01", "status": "active",
         "medicationCodeableConcept": {"coding": [coding, other]}},
        {"resourceType": "MedicationRequest", "id": "by-reference"},
        {"resourceType": "Encounter", "id": "codes", "status": "finished"},
        {"resourceType": "Condition", "id": "codes", "meta": {"versionId": "2"}},
        {"resourceType": "Condition", "id": "codes", "meta": {"versionId": "1"}, "code": {"coding": [other]}},
    ]  # fmt: skip
    received = [(subject, json.dumps(body).encode()) for subject in ("bob", "alice") for body in bodies]
    for wanted in ({}, {CHOLESTEROL: "mg/dL"}, {CHOLESTEROL: "g/L", "urn:own|chol": "kg"}):
        table, one_by_one = Table(wanted), Table(wanted)
        for subject in ("bob", "alice"):
            table.add_chunk(pack(raw for whose, raw in received if whose == subject), subject)
        for subject, raw in received:
            one_by_one.add(raw, subject)
        assert list(table) == list(one_by_one) == plain_rows(received, wanted)
        assert table.to_arrow().to_pylist() == [as_arrow_tells(row) for row in table]


ZONES = ("Z", "", "+00:00", "-05:00", "+13:59", "+14:00", "-14:01", "+05:60", "+0100", "+01:00:00")


MOMENTS = st.tuples(*(st.integers(0, most) for most in (9999, 13, 32, 24, 60, 61)), st.sampled_from(ZONES))


@given(MOMENTS)
def test_a_time_is_what_the_contract_takes_it_for(parts: tuple[Any, ...]) -> None:
    is_as_in_the_contract("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{}".format(*parts))


@pytest.mark.parametrize("text", [
    "2026-W01-5T10:00:00+01:00", "2026-01-02 10:00:00+01:00", "2026-01-02T10:00+01:00:00",
    "0001-01-01T00:00:00+13:00", "9999-12-31T23:59:59-13:00", "2016-12-31T23:59:60Z",
    "2026-01-02T10:00:00.5Z", "2026-01-02T10:00Z", "2026-01-02", "2026-01", "2026", "x",
])  # fmt: skip
def test_another_form_of_a_time_too(text: str) -> None:
    is_as_in_the_contract(text)


def is_as_in_the_contract(text: str) -> None:
    (row,) = rows(result(effectiveDateTime=text))
    assert (row.start, row.end) == (times.span(text) or (None, None))


def test_what_an_older_version_said_is_nowhere_in_the_table() -> None:
    old = result(status="entered-in-error", meta={"versionId": "1"})
    table = of_chunks(
        [pack(json.dumps(one).encode() for one in (old, result(meta={"versionId": "2"})))], "alice"
    )
    assert table.to_arrow().column("status").chunk(0).dictionary.to_pylist() == ["final"]


def test_the_newest_version_counts_whatever_the_order() -> None:
    old = result(value=1, meta={"versionId": "9", "lastUpdated": "2026-01-01T00:00:00Z"})
    new = result(value=2, meta={"versionId": "10", "lastUpdated": "2026-01-01T00:00:00Z"})
    assert [row.value for row in rows(old, new)] == [row.value for row in rows(new, old)] == [2]


def test_what_a_model_reads_gives_the_same_rows() -> None:
    raw = json.dumps(result()).encode()
    by_evidence = Table()
    held = Resource("Observation/o1", hashlib.sha256(raw).hexdigest(), json.loads(raw))
    by_evidence.add_evidence(Evidence((held,), frozenset()), "alice")
    assert list(by_evidence) == list(of_chunks([pack([raw])], "alice"))


def test_arrow_has_one_type_for_each_column_also_without_a_row() -> None:
    empty, full = Table().to_arrow(), of_chunks([pack([json.dumps(result()).encode()])], "alice").to_arrow()
    assert empty.schema == full.schema
    assert full.schema.field("value").type == pa.float64()
    assert str(full.column("start")[0].as_py()) == "2026-01-02 09:00:00+00:00"


def test_the_command_writes_json_lines_and_parquet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "all.ndjson"
    path.write_text("\n".join(map(json.dumps, (patient(), result(value=1.5, unit="g/L")))))
    call_command("features", str(path), "--unit", f"{CHOLESTEROL}=mg/dL")
    (line,) = capsys.readouterr().out.splitlines()
    assert (json.loads(line)["value"], json.loads(line)["subject"]) == (150.0, "alice-1")
    out = tmp_path / "features.parquet"
    call_command("features", str(path), "--out", str(out))
    assert parquet.read_table(out).column("value").to_pylist() == [1.5]
    path.write_text("{")
    with pytest.raises(SystemExit):
        call_command("features", str(path))
