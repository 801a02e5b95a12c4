"""The model over the synthetic sample: a number for whoever has the inputs, a reason for whoever has not."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import orjson

from gateway.analysis.catalogue import find
from gateway.analysis.catalogue.evidence import Evidence, Resource

PCE = find("pce")
DAY = date(2026, 6, 1)


def of_synthea(folder: Path) -> Iterator[list[dict[str, Any]]]:
    for path in sorted(folder.glob("*.json")):
        yield [entry["resource"] for entry in orjson.loads(path.read_bytes())["entry"]]


def of_bulk(folder: Path) -> Iterator[list[dict[str, Any]]]:
    held: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for kind in PCE.reads - {"Medication"}:
        for line in (folder / f"{kind}.ndjson").read_bytes().splitlines():
            resource = orjson.loads(line)
            whose = (
                resource["id"] if kind == "Patient" else resource["subject"]["reference"].rpartition("/")[2]
            )
            held[whose].append(resource)
    yield from held.values()


def test_everyone_gets_a_number_or_a_reason(sample_data: Path) -> None:
    people = [*of_synthea(sample_data / "synthea-2019-bundles"), *of_bulk(sample_data / "carebundle-bulk")]
    numbers, reasons = 0, set()
    for resources in people:
        held = tuple(
            Resource(
                f"{each['resourceType']}/{each['id']}", hashlib.sha256(orjson.dumps(each)).hexdigest(), each
            )
            for each in resources
        )
        found = PCE.features(Evidence(held, PCE.reads), index_date=DAY)
        score = PCE.assess(found)
        assert (score.value is None) == bool(score.reasons)
        if score.value is not None:
            numbers += 1
            assert 0 < score.value < 100
            # Each number stands on a Patient and on results that are in the sample.
            assert {source.partition("/")[0] for source in found.sources} >= {"Patient", "Observation"}
        reasons |= set(score.reasons)
    assert len(people) == 56
    assert numbers > 0
    named = {f"{each.name}.{why}" for each in PCE.inputs for why in ("missing", "out_of_range")}
    assert reasons <= named | {"excluded.ascvd", "excluded.deceased"}
