"""An in-memory ledger for tests: commits whole transactions, never shows one its own writes."""

import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from ledger.contract import canonical, times
from ledger.contract.consents import AI_MODEL, commitment, compile_consent
from ledger.contract.errors import Refused
from ledger.contract.state import Endorsers, Json, Result, Transaction
from ledger.contract.transactions import run

START = 1_800_000_000  # 2027-01-15
RIVERSIDE, LAKESIDE = "RiversideMSP", "LakesideMSP"
MODEL = "aa" * 32
ROLES = {
    "RegisterOrganisation": "admin",
    "AddMarks": "admin",
    "RegisterModel": "admin",
    "RevokeConsent": "gateway",
    "Checkpoint": "gateway",
}


def some_id() -> str:
    return secrets.token_hex(32)


class Simulation:
    """The State of one transaction: reads what is committed, gathers what is written."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.writes: dict[str, bytes] = {}
        self.policies: dict[str, Endorsers] = {}

    def get(self, key: str) -> bytes | None:
        return self.world.state.get(key)

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self.world.state.get(key) for key in keys]

    def range(self, start: str, end: str) -> Iterator[tuple[str, bytes]]:
        return iter(sorted((key, value) for key, value in self.world.state.items() if start <= key < end))

    def put(self, key: str, value: bytes) -> None:
        self.writes[key] = value

    def require(self, key: str, policy: Endorsers) -> None:
        self.policies[key] = policy


class World:
    """The committed state, the policies of its keys, and the time."""

    def __init__(self, *orgs: str) -> None:
        self.state: dict[str, bytes] = {}
        self.policies: dict[str, Endorsers] = {}
        self.events: list[tuple[str, Json]] = []
        self.now = START
        for org in orgs:
            self.submit("RegisterOrganisation", org=org)

    def submit(
        self,
        name: str,
        *,
        as_org: str = RIVERSIDE,
        as_role: str | None = None,
        secret: dict[str, Any] | None = None,
        **args: Any,
    ) -> Result:
        """Runs it twice and compares byte for byte, then commits; a refusal commits nothing."""
        transaction = Transaction(
            name=name,
            args=args,
            tx_id="00" * 32,
            time=self.now,
            org=as_org,
            role=as_role or ROLES.get(name, "keyholder"),
            transient={key: canonical.dumps(value) for key, value in (secret or {}).items()},
        )
        first, second = Simulation(self), Simulation(self)
        outcomes = [self._outcome(simulation, transaction) for simulation in (first, second)]
        assert outcomes[0] == outcomes[1]
        assert (first.writes, first.policies) == (second.writes, second.policies)
        assert list(first.writes) == list(second.writes)
        found = outcomes[0]
        if isinstance(found, tuple):
            raise Refused(*found)
        self.state.update(first.writes)
        self.policies.update(first.policies)
        if found.event:
            canonical.dumps(found.event[1])
            self.events.append(found.event)
        return found

    @staticmethod
    def _outcome(simulation: Simulation, transaction: Transaction) -> Result | tuple[str, str]:
        try:
            result = run(simulation, transaction)
        except Refused as refusal:
            return refusal.code, refusal.message
        canonical.dumps(result.payload)
        return result

    def value(self, key: str) -> Any:
        found = self.state.get(key)
        return None if found is None else canonical.load_canonical(found)


def fhir_consent(**provision: Any) -> Json:
    """alice's typed R4 consent: helix may use her observations with MODEL for research, until 2030."""
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": [{"code": "patient-privacy"}]},
        "patient": {"reference": "Patient/alice"},
        "dateTime": "2026-12-01T10:00:00Z",
        "provision": {
            "type": "permit",
            "extension": [{"url": AI_MODEL, "valueString": MODEL}],
            "period": {"start": "2026-12-01", "end": "2030-06-30"},
            "actor": [
                {"role": {"coding": [{"code": "IRCP"}]}, "reference": {"reference": "Organization/helix"}}
            ],
            "purpose": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HRESCH"}],
            "class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Observation"}],
            **provision,
        },
    }


def request(**changes: Any) -> Json:
    return {
        "action": "use",
        "model": MODEL,
        "purpose": "HRESCH",
        "recipient": "Organization/helix",
        "resources": [{"codes": None, "type": "Observation"}],
        "use": [],
        "version": 1,
        **changes,
    }


class Granted:
    """A consent with its opening, as the keyholder keeps it."""

    def __init__(self, fhir: Json | None = None) -> None:
        self.id, self.key = some_id(), secrets.token_bytes(32)
        self.canonical = compile_consent(fhir or fhir_consent(), consent=self.id, patient=some_id())

    @property
    def commitment(self) -> str:
        return commitment(self.key, canonical.dumps(self.canonical))

    @property
    def opening(self) -> Json:
        return {"consent": self.canonical, "key": self.key.hex()}

    @property
    def args(self) -> Json:
        expires = self.canonical["expires"]
        return {
            "consent": self.id,
            "commitment": self.commitment,
            "expires": None if expires is None else times.day_after(expires),
        }


def grant(world: World, fhir: Json | None = None) -> Granted:
    found = Granted(fhir)
    world.submit("GrantConsent", **found.args, secret={"openings": [found.opening]})
    return found


def approve_model(world: World, state: str = "approved") -> None:
    world.submit("RegisterModel", model=MODEL, card="cc" * 32, provider="Organization/helix", state=state)


def release(world: World, job: str, *consents: Granted, attempt: int = 1, **changes: Any) -> Result:
    asked = changes.pop("asked", request())
    secret = {"openings": [one.opening for one in consents], "request": asked, **changes.pop("secret", {})}
    part = {"part": 0, "key": "bb" * 32, "consents": [one.id for one in consents]}
    args = {
        "job": job,
        "attempt": attempt,
        "model": asked["model"],
        "request": canonical.digest(asked),
        "nonce": "ee" * 16,
        "parts": [part] if consents else [],
        **changes,
    }
    return world.submit("Release", secret=secret, **args)


def deliver(
    world: World, job: str, *outputs: tuple[Granted, ...], attempt: int = 1, **changes: Any
) -> Result:
    asked = changes.pop("asked", request())
    openings = {one.id: one.opening for output in outputs for one in output}
    secret = {
        "openings": [openings[one] for one in sorted(openings)],
        "request": asked,
        **changes.pop("secret", {}),
    }
    args = {
        "job": job,
        "attempt": attempt,
        "outputs": [
            {"output": f"{index:064x}", "consents": [one.id for one in output]}
            for index, output in enumerate(outputs)
        ],
        **changes,
    }
    return world.submit("Deliver", secret=secret, **args)
