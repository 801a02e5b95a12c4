"""From a file to records or refusals, with file, line and element. Nothing here needs a database."""

import gzip
import json
import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.records.intake import Intake, Record, Refusal, Spoiled, refusal
from gateway.records.sources import Source
from gateway.records.strict_json import MAX_RESOURCE_BYTES, Refused
from tests.records.conftest import bundle, entry, observation, patient

Write = Callable[..., Path]


def take(path: Path) -> tuple[list[Record], list[Refusal]]:
    with Source(path) as source:
        found = list(Intake().records(source))
    refused = [told for one in found if isinstance(one, Spoiled) for told in one.refusals]
    return [one for one in found if isinstance(one, Record)], refused


def refused(path: Path) -> Refusal:
    found = take(path)[1]
    assert len(found) == 1, found
    assert found[0].file == str(path)
    return found[0]


# What is taken


def test_ndjson_keeps_the_bytes_of_each_line(write: Write) -> None:
    line = json.dumps(observation()).replace("13.5", "13.50").encode()
    records, faults = take(write("o.ndjson", patient(), line + b"\r", b"  ", line.replace(b"o1", b"o2")))
    assert faults == []
    assert [one.kind for one in records] == ["Patient", "Observation", "Observation"]
    assert records[1].raw == line
    assert records[1].owner == "alice-1"
    assert records[1].labels == ("N",)
    assert [one.place.line for one in records] == [1, 2, 4]


def test_a_bundle_keeps_the_bytes_of_each_resource(write: Write) -> None:
    pretty = json.dumps(observation(of="urn:uuid:alice-1", note=[{"text": "naïve — 13°C"}]), indent=2,
                        ensure_ascii=False).replace("13.5", "13.50")  # fmt: skip
    text = (
        '{"type":"collection",\n "entry": [{"resource":\n'
        + pretty
        + ', "fullUrl":"urn:uuid:o1"},\n {"fullUrl": "urn:uuid:alice-1", "resource": '
        + json.dumps(patient())
        + '}], "resourceType": "Bundle"}\n'
    )
    records, faults = take(write("b.json", text.encode()))
    assert faults == []
    observed = next(one for one in records if one.kind == "Observation")
    assert observed.raw == pretty.encode()
    assert b"13.50" in observed.raw
    assert observed.owner == "alice-1"
    assert observed.place.line == 3
    assert observed.place.entry == "Bundle.entry[0]"


def test_a_large_bundle_is_read_through_a_small_window(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("w") as file:
        file.write('{"resourceType": "Bundle", "type": "collection", "entry": [')
        file.write(json.dumps(entry(patient())))
        for index in range(3000):
            text = "ü—" * (index % 700 + 1)
            file.write(
                ",\n" + json.dumps(entry(observation(f"o{index}", note=[{"text": text}])), ensure_ascii=False)
            )
        file.write("]}")
    assert path.stat().st_size > 4_000_000
    records, faults = take(path)
    assert faults == []
    assert len(records) == 3001
    assert [json.loads(one.raw)["id"] for one in records[1:]] == [f"o{index}" for index in range(3000)]


def test_labels_pass_to_a_claim_whatever_the_order(write: Write) -> None:
    condition = {
        "resourceType": "Condition",
        "id": "c1",
        "subject": {"reference": "urn:uuid:alice-1"},
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "F32.9"}]},
    }
    claim = {
        "resourceType": "Claim",
        "id": "k1",
        "status": "active",
        "use": "claim",
        "type": {"text": "professional"},
        "created": "2020-01-01",
        "patient": {"reference": "urn:uuid:alice-1"},
        "provider": {"display": "Riverside"},
        "priority": {"text": "normal"},
        "diagnosis": [{"sequence": 1, "diagnosisReference": {"reference": "urn:uuid:c1"}}],
        "insurance": [{"sequence": 1, "focal": True, "coverage": {"display": "none"}}],
    }
    records, faults = take(write("b.json", bundle(entry(claim), entry(condition), entry(patient()))))
    assert faults == []
    assert {one.kind: one.labels for one in records} == {
        "Patient": ("N",),
        "Condition": ("PSY", "R"),
        "Claim": ("PSY", "R"),
    }


def test_what_the_rules_cannot_tell_is_unlabelled(write: Write) -> None:
    records, _ = take(write("o.ndjson", observation(code={"text": "mood"})))
    assert records[0].labels == ("unlabelled",)


def test_a_resource_of_no_patient_has_no_owner(write: Write) -> None:
    records, _ = take(write("o.ndjson", {"resourceType": "Organization", "id": "r", "name": "Riverside"}))
    assert records[0].owner is None
    assert records[0].labels == ("N",)


# Bad files


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b'{"resourceType": "Observation", ', "malformed_json"),
        (b'{"resourceType": "Observation", "resourceType": "Observation"}', "duplicate_key"),
        (b'{"resourceType": "Observation", "value": NaN}', "malformed_json"),
        (b'{"a": ' + b"[" * 10**5 + b"]" * 10**5 + b"}", "too_deep"),
        (b'{"a": ' + b"1" * 10**6 + b"}", "number_too_long"),
        (b'{"a": "\\ud800"}', "lone_surrogate"),
        (b'{"a": "\xff"}', "not_utf8"),
    ],
)
def test_bad_json_is_refused_by_line_and_by_entry(write: Write, raw: bytes, code: str) -> None:
    found = refused(write("o.ndjson", patient(), raw))
    assert (found.code, found.line) == (code, 2)
    start, end = b'{"resourceType": "Bundle", "type": "collection", "entry": [\n', b"]}"
    good = json.dumps(entry(patient())).encode()
    path = write("b.json", start + good + b',\n{"resource": ' + raw + b"}" + end)
    found = take(path)[1][0]
    assert found.code == code
    # Bad UTF-8 is seen a window ahead of the value that it stands in.
    assert found.line == 3 or (code == "not_utf8" and found.line is not None)


def test_a_fault_says_line_and_byte(write: Write) -> None:
    bad = b'{\r"resourceType": x}'
    path = write("o.ndjson", patient(), bad)
    found = refused(path)
    assert found.line == 2
    assert found.offset is not None
    assert path.read_bytes()[found.offset - 1 : found.offset + 1].find(b"x") >= 0


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "malformed_json"),
        ("[]", "malformed_json"),
        ("{}", "not_a_bundle"),
        ('{"resourceType": "Patient", "id": "p"}', "not_a_bundle"),
        ('{"resourceType": "Bundle", "type": "searchset"}', "bundle_type"),
        ('{"resourceType": "Bundle", "type": "collection", "type": "collection"}', "duplicate_key"),
        ('{"resourceType": "Bundle", "type": "collection", "meta": {"a": 1, "a": 1}}', "duplicate_key"),
        ('{"resourceType": "Bundle", "type": "collection"} {}', "malformed_json"),
        ('{"resourceType": "Bundle", "type": "collection", "entry": [{}]}', "entry_empty"),
        ('{"resourceType": "Bundle", "type": "collection", "entry": [{"resource": 1}]}', "not_an_object"),
        ('{"resourceType": "Bundle", "type": "collection", "entry": [', "malformed_json"),
        ('{"resourceType": "Bundle", "type": "collection", "entry": [{"fullUrl" 1}]}', "malformed_json"),
        (
            '{"resourceType": "Bundle", "type": "transaction", "entry": [{"request": {"method": "DELETE"}}]}',
            "deletion_unclear",
        ),
        (
            json.dumps(bundle({"fullUrl": "Patient/bob", "resource": patient()})),
            "full_url",
        ),
    ],
)
def test_what_is_no_bundle_is_refused(write: Write, text: str, code: str) -> None:
    assert refused(write("b.json", text.encode())).code == code


def test_two_resources_at_one_address_are_refused(write: Write) -> None:
    twice = bundle(entry(patient()), {"fullUrl": "urn:uuid:alice-1", "resource": observation()})
    found = refused(write("b.json", twice))
    assert (found.code, found.element) == ("full_url", "Bundle.entry[1].fullUrl")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (gzip.compress(b"0" * 10**6), "compressed"),
        (b"\xef\xbb\xbf{}", "byte_order_mark"),
        ('{"a": 1}'.encode("utf-16"), "byte_order_mark"),
    ],
)
def test_what_is_no_plain_utf8_file_is_refused(write: Write, content: bytes, code: str) -> None:
    for name in ("x.json", "x.ndjson"):
        with pytest.raises(Refused) as fault:
            Source(write(name, content))
        assert fault.value.code == code


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.json"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Patient.json", b"0" * 50_000_000)
    with pytest.raises(Refused, match="compressed"):
        Source(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ndjson")
    for name in ("none.ndjson", "pipe.ndjson"):
        with pytest.raises(Refused, match="file_unreadable"):
            Source(tmp_path / name)


def test_a_line_of_a_gigabyte_is_passed_over_in_bounded_memory(tmp_path: Path) -> None:
    """A child with 400 MB of address space more than Python starts with reads on after it."""
    path = tmp_path / "long.ndjson"
    with path.open("wb") as file:
        file.write(json.dumps(patient()).encode() + b'\n{"a": "')
        file.truncate(10**9)  # a sparse file: a gigabyte of zero bytes on one line
        file.seek(10**9)
        file.write(b"\n" + json.dumps(patient("bob-1")).encode())
    script = (
        "import sys; from pathlib import Path; from gateway.records.intake import *; "
        "from gateway.records.sources import Source; "
        "print([one.refusals[0].code if isinstance(one, Spoiled) else one.place.line "
        "for one in Intake().records(Source(Path(sys.argv[1])))])"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (600_000_000, 600_000_000))

    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.stdout == "[1, 'line_too_long', 3]\n", done.stderr


def test_a_resource_too_large_in_a_bundle_is_refused(write: Write) -> None:
    large = observation(note=[{"text": "x" * (MAX_RESOURCE_BYTES + 1)}])
    assert refused(write("b.json", bundle(entry(large)))).code == "resource_too_large"


# Bad resources


@pytest.mark.parametrize(
    ("change", "code", "element"),
    [
        ({"resourceType": "Frobnicator"}, "type_not_taken", "resourceType"),
        ({"resourceType": 5}, "type_not_taken", "resourceType"),
        ({"resourceType": "Bundle"}, "type_not_taken", "resourceType"),
        ({"id": None}, "id_missing", "Observation.id"),
        ({"id": "a/b"}, "id_missing", "Observation.id"),
        ({"status": None}, "required", "Observation.status"),
        ({"colour": "red"}, "unknown_element", "Observation.colour"),
        ({"Alice Example's secret": "red"}, "unknown_element", "Observation.?"),
        ({"code": {"coding": [{"system": 5}]}}, "wrong_type", "Observation.code.coding[0].system"),
        ({"effectiveDateTime": "yesterday"}, "wrong_form", "Observation.effectiveDateTime"),
        ({"subject": None}, "patient_unclear", "Observation.subject"),
        ({"subject": {"display": "Alice"}}, "patient_unclear", "Observation.subject"),
        ({"subject": {"reference": "Group/1"}}, "patient_unclear", "Observation.subject"),
        ({"subject": {"reference": "#p"}}, "ref-1", "Observation.subject"),
        ({"subject": {"reference": "Patient?identifier=1"}}, "patient_unclear", "Observation.subject"),
        ({"subject": {"reference": "https://other.example/Patient/alice-1"}}, "patient_unclear",
         "Observation.subject"),
        ({"subject": {"type": "Patient", "identifier": {"value": "1"}}}, "patient_unclear",
         "Observation.subject"),
        ({"performer": [{"reference": "Patient/bob-1"}]}, "another_patient",
         "Observation.performer[0].reference"),
        ({"focus": [{"reference": "https://other.example/Patient/alice-1"}]}, "reference_unclear",
         "Observation.focus[0].reference"),
        ({"focus": [{"reference": "urn:uuid:somewhere"}]}, "reference_unclear",
         "Observation.focus[0].reference"),
        ({"focus": [{"type": "Patient", "identifier": {"value": "1"}}]}, "reference_unclear", "Observation"),
        ({"contained": [{"resourceType": "Patient", "id": "p"}], "focus": [{"reference": "#p"}]},
         "another_patient", "Observation.contained"),
    ],
)  # fmt: skip
def test_a_resource_that_is_not_one_persons_fhir_is_refused(
    write: Write, change: dict[str, Any], code: str, element: str
) -> None:
    changed = {name: value for name, value in {**observation(), **change}.items() if value is not None}
    found = refused(write("o.ndjson", patient(), changed))
    assert (found.code, found.element, found.line) == (code, element, 2)
    assert "alice" not in str(found.message).lower()


def test_every_fault_of_a_file_is_told(write: Write) -> None:
    records, faults = take(write("o.ndjson", b"{", observation(), observation(status=5), b"[]"))
    assert [one.line for one in faults] == [1, 3, 4]
    assert len(records) == 1


@pytest.mark.parametrize(
    ("other", "element"),
    [
        (patient("bob-1"), "Bundle.entry[2].resource"),
        (observation("o2", of="Patient/bob-1"), "Bundle.entry[2].resource"),
        (observation("o2", performer=[{"reference": "Patient/bob-1"}]),
         "Bundle.entry[2].resource.performer[0].reference"),
    ],
)  # fmt: skip
def test_a_resource_of_another_patient_in_the_bundle_is_refused(
    write: Write, other: dict[str, Any], element: str
) -> None:
    found = refused(write("b.json", bundle(entry(patient()), entry(observation()), entry(other))))
    assert (found.code, found.element) == ("another_patient", element)


def test_an_address_resolves_within_the_bundle_only(write: Write) -> None:
    at_home = "https://home.example/fhir/Patient/alice-1"
    whole = bundle(
        {"fullUrl": at_home, "resource": patient()},
        entry(observation(of=at_home)),
        entry(observation("o2", of="urn:uuid:nobody")),
    )
    records, faults = take(write("b.json", whole))
    assert [one.owner for one in records] == ["alice-1", "alice-1"]
    assert [(one.code, one.element) for one in faults] == [
        ("patient_unclear", "Bundle.entry[2].resource.subject")
    ]


def test_an_organisation_names_no_patient(write: Write) -> None:
    shared = {
        "resourceType": "Organization",
        "id": "r",
        "name": "x",
        "extension": [{"url": "http://x.example/head", "valueReference": {"reference": "Patient/bob-1"}}],
    }
    assert refused(write("o.ndjson", shared)).code == "another_patient"


def test_a_refusal_reads_as_a_sentence(write: Write) -> None:
    path = write("o.ndjson", observation(status=None))
    said = "Observation.status is empty; leave it out, or give it a value [empty]"
    assert str(refused(path)) == f"{path}:1: {said}"
    with Source(path) as source:
        found = refusal(source, Refused("compressed", "is compressed"), None)
    assert str(found) == f"{path}: this is compressed [compressed]"
