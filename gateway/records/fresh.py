"""Which records are not here yet, by keyed names and digests of their versions: each version goes in once.

The database knows keyed digests only. Records of many patients are looked up together.
"""

import hmac
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from gateway.keyholder.regrouping import instant, resource_name
from gateway.records.intake import Record
from gateway.records.models import Deletion, Gone, ResourceVersion
from gateway.statements import AT_ONCE, Given, Statement, in_batches


class Fresh(NamedTuple):
    """A record with the keyed digest of its version, the name of its resource, and of this version of it
    ("": its source gave it no versionId)."""

    record: Record
    digest: str
    name: str
    version: str


def digests(index_key: bytes, records: Sequence[Record]) -> list[str]:
    """The keyed digest of each record's version. Who lacks the key can neither link nor test one."""
    return [hmac.digest(index_key, record.name, "sha256").hex() for record in records]


def named(index_key: bytes, custodian_key: bytes, records: Sequence[Record]) -> list[Fresh]:
    """The records of one patient with their digests and names."""
    return [
        Fresh(
            one,
            digest,
            resource_name(custodian_key, one.resource),
            resource_name(custodian_key, one.versioned) if one.version else "",
        )
        for one, digest in zip(records, digests(index_key, records), strict=True)
    ]


def _given(name: str) -> list[Given]:
    return [Given(f"{name}{number}") for number in range(AT_ONCE)]


_HERE = Statement(
    lambda: ResourceVersion.objects.filter(digest__in=_given("digest")).values_list("digest", "rules")
)
_GONE = Statement(lambda: Gone.objects.filter(digest__in=_given("digest")).values_list("digest"))
_OLDER = Statement(lambda: ResourceVersion.objects.filter(name__in=_given("name")).values_list("name"))
_DELETED = Statement(lambda: Deletion.objects.filter(name__in=_given("name")).values_list("name", "at"))


class Here:
    """What the database has of some records. Raises DatabaseError.

    rules    of versions that are here, by digest: the label rules that their labels are of
    gone     digests of versions that were here, and are not taken in again
    older    names of resources of which there are versions
    deleted  names of resources that their source deleted, and when
    """

    def __init__(self, some: Iterable[Fresh]) -> None:
        self.rules: dict[str, str] = {}
        self.gone: set[str] = set()
        self.older: set[str] = set()
        self.deleted: dict[str, datetime] = {}
        for batch in in_batches(some):
            places = [*batch, *batch[:1] * (AT_ONCE - len(batch))]  # a statement is written for so many
            digests = {f"digest{number}": one.digest for number, one in enumerate(places)}
            names = {f"name{number}": one.name for number, one in enumerate(places)}
            self.rules.update(_HERE.rows(**digests))
            self.gone.update(digest for (digest,) in _GONE.rows(**digests))
            self.older.update(name for (name,) in _OLDER.rows(**names))
            self.deleted.update(_DELETED.rows(**names))

    def is_deleted(self, one: Fresh) -> bool:
        """Whether its source deleted the resource after it said this. What came again later is not."""
        if one.name not in self.deleted:
            return False
        return 0 <= instant(one.record.updated) <= instant(self.deleted[one.name].isoformat())
