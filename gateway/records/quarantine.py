"""What a lenient ingest set aside: faulty resources, sealed, until somebody mends or drops them.

They are no records: in no chunk, labelled by nobody, opened by no job. They are sealed under a key derived
from the custodian's index key, which the keyholder gives to the account that ingests and to no other.
"""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from consent.models import random_id
from gateway.keyholder.client import Keyholder
from gateway.keyholder.envelope import KEY_BYTES, open_chunk, seal_chunk
from gateway.keyholder.regrouping import CUSTODIAN
from gateway.records.intake import Refusal
from gateway.records.models import Quarantined
from gateway.records.sources import OneResource, Place
from gateway.records.validation import kind_taken
from ledger.client import HOME

_INFO = b"consent gateway: quarantine of records"
_VERSION = 1


class Aside(NamedTuple):
    """A faulty resource on its way into the quarantine. `addresses`: fullUrl → `Type/id` of its file."""

    raw: bytes
    place: Place
    refusals: tuple[Refusal, ...]
    addresses: Mapping[str, str]


def sealed(keyholder: Keyholder, file: str, aside: Sequence[Aside]) -> list[Quarantined]:
    """The rows to keep, in the order given. Raises GatewayError."""
    if not aside:
        return []
    key = _key(keyholder)
    return [_row(key, file, one) for one in aside]


def opened(keyholder: Keyholder, row: Quarantined) -> OneResource:
    """The resource as it came, with the addresses of its Bundle that it names. Raises GatewayError."""
    plain = open_chunk(_key(keyholder), bytes(row.blob), patient=CUSTODIAN, chunk=row.id, version=_VERSION)
    addresses, _, raw = plain.partition(b"\n")
    return OneResource(raw, json.loads(addresses))


def _row(key: bytes, file: str, one: Aside) -> Quarantined:
    id = random_id()
    named = {url: meant for url, meant in one.addresses.items() if url.encode() in one.raw}
    plain = json.dumps(named).encode() + b"\n" + one.raw
    return Quarantined(
        id=id,
        file=file,
        line=one.place.line,
        entry=one.place.entry,
        kind=kind_taken(one.raw),
        faults=[{"element": r.element, "code": r.code, "message": r.message} for r in one.refusals],
        blob=seal_chunk(key, plain, patient=CUSTODIAN, chunk=id, version=_VERSION),
    )


def _key(keyholder: Keyholder) -> bytes:
    index_key = keyholder.enrol_many(channels={CUSTODIAN: HOME})[CUSTODIAN]
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=_INFO).derive(index_key)
