"""An export's part of the job child: of one patient, what the consent and the scopes permit, de-identified.

Beside `catalogue` this is the other work that a child does. No Django, no network, no name of a person.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import orjson

from gateway.accounts.scopes import Filter, matches
from gateway.analysis.catalogue.evidence import Evidence, Resource
from gateway.analysis.deidentify import Identity, Withheld, deidentify
from ledger.contract import times

Json = dict[str, Any]


class Export:
    """What a job exports: `spec` as `check_spec` of services made it."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.key = bytes.fromhex(spec["key"])
        self.reads = frozenset(spec["types"])
        self.since: int | None = spec["since"]
        self.filters: Mapping[str, Sequence[Sequence[Filter]]] = spec["filters"]
        self.today = date.fromisoformat(spec["today"])

    def lines(self, patient: str, resources: Sequence[Resource]) -> bytes:
        """NDJSON: each resource once, in its newest version, de-identified; sorted by type and id."""
        identity, evidence = Identity(self.key, patient, self.today), Evidence(tuple(resources), frozenset())
        kept = []
        for each in (found for kind in sorted(self.reads) for found in evidence.of_type(kind)):
            if self._is_asked_for(each.body):
                try:
                    kept.append(deidentify(each.body, identity))
                except Withheld:
                    continue
        kept.sort(key=lambda one: (one["resourceType"], one.get("id", "")))
        return b"".join(orjson.dumps(one) + b"\n" for one in kept)

    def _is_asked_for(self, body: Mapping[str, Any]) -> bool:
        """Within every group of filters it matches one; and it changed since, or does not say when."""
        groups = self.filters.get(str(body.get("resourceType")), ())
        if not all(any(matches(body, one) for one in group) for group in groups):
            return False
        if self.since is None:
            return True
        updated = body.get("meta", {}).get("lastUpdated") if isinstance(body.get("meta"), dict) else None
        span = times.span(updated) if isinstance(updated, str) else None
        return span is None or span[1] > self.since
