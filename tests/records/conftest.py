"""Small valid resources, and files made of them."""

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.keyholder.client import Keyholder
from tests.conftest import Installation

SYSTEM = "http://loinc.org"


def patient(id: str = "alice-1", **more: Any) -> dict[str, Any]:
    name = [{"use": "official", "given": ["Alice"], "family": "Example"}]
    return {"resourceType": "Patient", "id": id, "name": name, "birthDate": "1970-01-31", **more}


def observation(id: str = "o1", of: str = "Patient/alice-1", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "code": {"coding": [{"system": SYSTEM, "code": "2093-3"}]},
        "subject": {"reference": of},
        "valueQuantity": {"value": 13.5, "unit": "mmol/L"},
        **more,
    }


def entry(resource: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource, **more}


def bundle(*entries: dict[str, Any], kind: str = "collection") -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a file: bytes as they are, a dict as JSON, several values as NDJSON lines."""

    def written(name: str, *content: Any) -> Path:
        lines = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in content]
        path = tmp_path / name
        path.write_bytes(b"\n".join(lines))
        return path

    return written


@pytest.fixture
def keyholder(installation: Installation) -> Iterator[Keyholder]:
    made = Keyholder(installation.keyholder_socket)
    yield made
    made.close()


@pytest.fixture
def alice_id() -> str:
    """The keyholder is the session's: a record id of this test's own."""
    return f"alice-{secrets.token_hex(8)}"
