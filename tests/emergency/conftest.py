"""alice with sealed records on the real keyholder, and bob on the ward."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from django.contrib.auth.models import Group
from django.utils import timezone

from consent.models import random_id
from gateway.accounts.roles import make_groups
from gateway.keyholder.client import ChunkHeader, Keyholder
from gateway.keyholder.envelope import seal_chunk
from gateway.records.lines import pack
from gateway.records.models import Chunk

WORDS = "Found unconscious, no relatives here"


def allergy(id: str, text: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "AllergyIntolerance", "id": id, "code": {"text": text}, **more}


def observation(id: str, value: float, when: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id,
        "code": {"text": "Potassium"},
        "effectiveDateTime": when,
        "valueQuantity": {"value": value, "unit": "mmol/L"},
    }


@pytest.fixture
def seal(installation: Any) -> Callable[..., None]:
    """Seal resources for a patient, one chunk for each type, as ingest does."""
    keyholder = Keyholder(installation.keyholder_socket)

    def sealed(patient: Any, *resources: dict[str, Any], labels: tuple[str, ...] = ("N",)) -> None:
        keyholder.enrol(patient=patient.pk)
        by_type: dict[str, list[bytes]] = {}
        for each in resources:
            by_type.setdefault(each["resourceType"], []).append(orjson.dumps(each))
        headers: list[ChunkHeader] = [
            {
                "chunk": random_id(),
                "resource_type": kind,
                "labels": [*labels],
                "count": len(held),
                "version": 1,
            }
            for kind, held in by_type.items()
        ]
        keys = keyholder.new_chunks(patient=patient.pk, chunks=headers)["keys"]
        for header in headers:
            blob = seal_chunk(
                keys[header["chunk"]],
                pack(by_type[header["resource_type"]]),
                patient=patient.pk,
                chunk=header["chunk"],
                version=1,
            )
            Chunk.objects.create(id=header["chunk"], patient=patient, blob=blob, confirmed_at=timezone.now())
        keyholder.confirm_chunks(chunks=[{"chunk": each["chunk"], "version": 1} for each in headers])

    return sealed


@pytest.fixture
def records(seal: Callable[..., None], alice: Any) -> None:
    seal(
        alice,
        allergy("a1", "Penicillin", criticality="high"),
        observation("o1", 4.1, "2024-01-02T10:00:00Z"),
        observation("o2", 5.9, "2025-06-07T08:30:00Z"),
    )


@pytest.fixture
def ward(bob: Any) -> Any:
    """bob, in the role of a clinician."""
    make_groups()
    bob.groups.set(Group.objects.filter(name="clinician"))
    return bob
