"""How the rest of the gateway talks to the keyholder: typed calls over its Unix socket.

Nothing here holds a key for longer than the call that brings it. When nobody listens, every call
raises KeyholderUnavailable; a refusal comes back as the error that the keyholder raised, by code.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from ledger.client import HOME
from ledger.contract.state import Json
from ledger.errors import KeyholderUnavailable
from ledger.rpc import Connection, from_b64, to_b64

# The keyholder itself waits for the ledger in these calls.
LEDGER_SECONDS = 60.0
PLACES_AT_ONCE = 500
REFERENCES_AT_ONCE = 500


class ChunkHeader(TypedDict):
    """What the keyholder keeps, sealed, of one chunk."""

    chunk: str
    resource_type: str
    labels: list[str]
    count: int
    version: int


class ChunkVersion(TypedDict):
    chunk: str
    version: int


class NewChunks(TypedDict):
    """A data key for each chunk, and the patient's key for keyed digests (32 bytes each)."""

    keys: dict[str, bytes]
    index_key: bytes


class HeldChunk(TypedDict):
    """A chunk as the database keeps it; `notes` is empty for one of before there were notes.

    `names` (ResourceVersion.name) of its lines, and `patient`, where the call wants them.
    """

    chunk: str
    version: int
    blob: bytes
    notes: bytes
    names: NotRequired[list[str]]
    patient: NotRequired[str]


class RegroupedChunk(TypedDict):
    """A chunk that the keyholder sealed. `lines`: of each line, the chunk and number that it had before."""

    chunk: str
    version: int
    blob: bytes
    notes: bytes
    lines: list[tuple[str, int]]


class RegroupedChunks(TypedDict):
    """`chunks` replace those of `retired`; `notes` are new ones of chunks that stay. Nothing was done where
    names are `wanted`; lines that are `waiting` for others' labels stay withheld."""

    chunks: list[RegroupedChunk]
    notes: dict[str, bytes]
    retired: list[str]
    wanted: list[str]
    waiting: list[tuple[str, int]]


class Doubt(TypedDict):
    """Chunks that newer rules may concern, with the order in which they are labelled; whether the labels of
    others may follow from theirs."""

    ranks: dict[str, int]
    followed: bool


class Count(TypedDict):
    """How many resources of a kind there are; nothing was opened to know it."""

    resource_type: str
    labels: list[str]
    count: int


class Submitted(TypedDict):
    """`state` is committed, sent (outcome not known yet: repeat the call) or refused (`code` says why)."""

    tx_id: str
    block: int | None
    state: str
    code: str


class KeptOpening(TypedDict):
    """`opening` is "fits", "differs" or "missing"."""

    opening: str
    stopped: bool


class Erased(TypedDict):
    """When (seconds since 1970), and the id of the KEK that backups of before need to hold her key."""

    at: int
    kek: str


class LogEntry(TypedDict):
    """One opening: its number, when, on which ground and attempt of which job or access, on which channel."""

    id: int
    at: int
    ground: str
    reference: str
    attempt: int | None
    tx_id: str
    channel: str


class OpeningOf(TypedDict):
    """One opening of a place: `opened` are `chunk/version`, or the digest of an output (`ground` output)."""

    id: int
    at: int
    ground: str
    reference: str
    subject: str | None
    attempt: int | None
    opened: list[str]


Filed = tuple[str | None, str, list[str]]
"""A subject (None: an access), the ground, and what was opened: `chunk/version`, or an output's digest."""


class LogPage(TypedDict):
    """`bad`: the first row that does not hold, null where all of the page do. `last`: the log's last row."""

    bad: int | None
    entries: list[LogEntry]
    last: int


class Signers(TypedDict):
    """Passkeys by credential id (hex): those known, those that sign now; and until when none may (0: now)."""

    known: list[str]
    signing: list[str]
    quiet_until: int


class Draft(Signers):
    """`commitment` (hex) is what the patient signs."""

    commitment: str


class SignedConsent(TypedDict):
    """`signature` with the key that checks it; `evidence` of the block that granted it, if there is one."""

    commitment: str
    signature: Json
    evidence: Json | None


class SignedEmergency(TypedDict):
    """As SignedConsent, of a clinician. `organisation` recorded it; `completed`: the evidence is of the
    others' word that it did."""

    completed: bool
    digest: str
    organisation: str
    signature: Json
    evidence: Json | None


class SubjectOfPart(TypedDict):
    subject: str
    patient: str


class Part(TypedDict):
    """One child of a job: its number, its X25519 public key in hex, and whom it works on."""

    part: int
    key: str
    subjects: list[SubjectOfPart]


class SubjectDecision(TypedDict):
    decision: str
    reasons: list[Any]
    consent: str | None


class Released(TypedDict):
    tx_id: str
    block: int
    decision: str
    subjects: dict[str, SubjectDecision]


class WrappedChunk(TypedDict):
    """`wrapped` is for `envelope.PartUnwrapper.unwrap`."""

    chunk: str
    version: int
    resource_type: str
    labels: list[str]
    wrapped: bytes


class WrappedChunks(TypedDict):
    """`rules` are those left over for single resources; `more`: ask again after the last chunk."""

    chunks: list[WrappedChunk]
    rules: Any
    more: bool


class OutputDigest(TypedDict):
    """SHA-256 (hex) of a sealed output, and the subjects that it is about (one, unless an aggregate)."""

    subjects: list[str]
    digest: str


class Delivered(TypedDict):
    tx_id: str
    block: int
    delivered: list[str]
    withheld: list[str]


class Completed(TypedDict):
    """How many emergencies were completed, and how many the ledger refused to."""

    completed: int
    refused: int


class AccessTold(TypedDict):
    """`kind` is emergency or subject, `expires` seconds since 1970, `details` what the asker said; `signed`:
    by a clinician's passkey."""

    kind: str
    patient: str
    details: Json
    expires: int
    signed: bool


class Status(TypedDict):
    """`boundary` says in words whether the system keeps the keyholder apart from its callers.

    `channels` has, for each, the height that every organisation has shown. `under_old_keks` counts patients
    whose keys still need another KEK than `kek`.
    """

    channels: dict[str, dict[str, int]]
    patients: int
    chunks: int
    consents: int
    openings: int
    kek: str
    under_old_keks: int
    boundary: str
    enforced: bool


class Keyholder:
    """Calls to one keyholder; safe for threads. `socket_path` is KEYHOLDER_SOCKET."""

    def __init__(self, socket_path: str | Path, *, timeout: float = 10.0) -> None:
        self._socket_path, self._timeout = socket_path, timeout

    @cached_property
    def _connection(self) -> Connection:
        return Connection(self._socket_path, unavailable=KeyholderUnavailable)

    def _call(self, method: str, params: Mapping[str, Any], timeout: float | None = None) -> Json:
        return self._connection.call(method, dict(params), timeout=timeout or self._timeout)

    # Records

    def enrol(self, *, patient: str, channel: str = HOME) -> None:
        """Make the patient's keys, once, on the channel where all her consents will be; harmless to repeat.

        Raises RefusedTransition (`channel_differs`), LedgerError (`channel_unknown`).
        """
        self._call("enrol", {"patient": patient, "channel": channel})

    def new_chunks(self, *, patient: str, chunks: Sequence[ChunkHeader]) -> NewChunks:
        """Data keys to seal these chunks with. They are not selected until `confirm_chunks`."""
        found = self._call("new_chunks", {"patient": patient, "chunks": list(chunks)})
        keys = {chunk: bytes.fromhex(key) for chunk, key in found["keys"].items()}
        return {"keys": keys, "index_key": bytes.fromhex(found["index_key"])}

    def enrol_many(self, *, channels: Mapping[str, str]) -> dict[str, bytes]:
        """As `enrol`, for each patient with her channel, in one durable step; the index keys by patient."""
        found = self._call("enrol_many", {"channels": dict(channels)})["index_keys"]
        return {patient: bytes.fromhex(key) for patient, key in found.items()}

    def new_chunks_many(self, *, chunks: Mapping[str, Sequence[ChunkHeader]]) -> dict[str, bytes]:
        """As `new_chunks`, for the chunks of every patient, in one durable step; the data keys by chunk."""
        asked = [{"patient": patient, "chunks": list(own)} for patient, own in chunks.items()]
        found = self._call("new_chunks_many", {"patients": asked})["keys"]
        return {chunk: bytes.fromhex(key) for chunk, key in found.items()}

    def confirm_chunks(self, *, chunks: Sequence[ChunkVersion]) -> None:
        """Their blobs are safe in the database: they may be selected from now on."""
        self._call("confirm_chunks", {"chunks": list(chunks)})

    def regroup(
        self, *, act: str, patient: str, chunks: Sequence[HeldChunk], changes: Json
    ) -> RegroupedChunks:
        """Lines of these sealed chunks moved, labelled or left out (regrouping.Changes), and sealed again.

        Selected instead of them only after `replace_chunks`. Raises RefusedTransition, EnvelopeError.
        """
        params = {"act": act, "patient": patient, "chunks": _sent(chunks), "changes": changes}
        return _regrouped(self._call("regroup", params, LEDGER_SECONDS))

    def survey(self, *, patient: str, chunks: Sequence[HeldChunk], followed: bool) -> Doubt:
        """Which of these chunks the keyholder's rules of today may label otherwise; from then on they are
        withheld. Their blobs stay here. Raises RefusedTransition, EnvelopeError."""
        params = {"patient": patient, "chunks": _sent(chunks), "followed": followed}
        return self._call("survey", params, LEDGER_SECONDS)  # type: ignore[return-value]

    def relabel(
        self,
        *,
        act: str,
        patient: str,
        chunks: Sequence[HeldChunk],
        neighbours: Sequence[HeldChunk] | None = None,
    ) -> RegroupedChunks:
        """These chunks labelled anew by the keyholder's own rules, and sealed again, as `regroup` does.

        What is `wanted` is to be sent as `neighbours` (their blobs stay here) with a second call. Raises
        RefusedTransition, EnvelopeError.
        """
        params = {
            "act": act,
            "patient": patient,
            "chunks": _sent(chunks),
            "has_neighbours": neighbours is not None,
            "neighbours": _sent(neighbours or ()),
        }
        return _regrouped(self._call("relabel", params, LEDGER_SECONDS))

    def replace_chunks(
        self, *, patient: str, confirm: Sequence[ChunkVersion], retire: Sequence[ChunkVersion]
    ) -> None:
        """From now on `confirm` may be selected, and `retire` cannot be opened any more; repeat it freely."""
        self._call("replace_chunks", {"patient": patient, "confirm": list(confirm), "retire": list(retire)})

    def resource_name(self, *, resource: str) -> str:
        """What finds the versions of a resource (`Type/id`) in the database (ResourceVersion.name)."""
        return str(self._call("resource_name", {"resource": resource})["name"])

    def restrict_chunk(self, *, patient: str, chunk: str, version: int, label: str) -> None:
        """From when this returns all of the chunk carries the sensitivity, until it is regrouped."""
        params = {"patient": patient, "chunk": chunk, "version": version, "label": label}
        self._call("restrict_chunk", params)

    def withhold_followers(self, *, patient: str, of: ChunkVersion, chunks: Sequence[HeldChunk]) -> None:
        """Have the chunks withheld whose labels may follow from the chunk `of`, until they are labelled anew.

        Their blobs stay here. Raises RefusedTransition, EnvelopeError.
        """
        self._call("withhold_followers", {"patient": patient, **of, "chunks": _sent(chunks)}, LEDGER_SECONDS)

    def index(self, *, patient: str) -> list[Count]:
        """What there is of a patient, by type and labels."""
        found: list[Count] = self._call("index", {"patient": patient})["index"]
        return found

    def with_kinds(self, patients: Sequence[str], kinds: Sequence[str]) -> list[str]:
        """Those of the patients, in their order, who have an ordinary record of each of the kinds."""
        params = {"patients": list(patients), "kinds": list(kinds)}
        found: list[str] = self._call("with_kinds", params)["patients"]
        return found

    # Consents

    def draft(self, *, consent: str, patient: str, fhir: Json) -> Draft:
        """What a patient is to sign for this consent; nothing is submitted. Repeat it freely."""
        params = {"consent": consent, "patient": patient, "fhir": fhir}
        return self._call("draft", params)  # type: ignore[return-value]

    def signers(self, *, patient: str) -> Signers:
        return self._call("signers", {"patient": patient})  # type: ignore[return-value]

    def enrol_passkey(
        self, *, patient: str, credential: str, public_key: bytes, voucher: Json | None = None
    ) -> int:
        """Know a passkey (DER SubjectPublicKeyInfo); since when it signs. Every passkey after the first needs
        the `voucher` of one that signs: an assertion of `ledger.webauthn.passkey_challenge`."""
        params = {
            "patient": patient,
            "credential": credential,
            "public_key_b64": to_b64(public_key),
            "voucher": voucher,
        }
        return int(self._call("enrol_passkey", params)["since"])

    def drop_passkey(
        self, *, credential: str, patient: str | None = None, clinician: str | None = None
    ) -> None:
        """One of several passkeys signs no more; of who is patient and clinician, for both or for neither.

        A patient's last one stays: RefusedTransition (`passkey_last`); where each emergency has to be signed,
        a clinician's too (`emergency_passkey_last`).
        """
        params = {"credential": credential, "patient": patient, "clinician": clinician}
        self._call("drop_passkey", params)

    def drop_passkeys(self, *, patient: str) -> int:
        """None of the patient's passkeys signs any more; until when nobody says yes for her."""
        return int(self._call("drop_passkeys", {"patient": patient})["until"])

    def signed_consent(self, *, consent: str, patient: str) -> SignedConsent:
        """What shows others that the patient signed. Raises RefusedTransition (`not_signed`)."""
        params = {"consent": consent, "patient": patient}
        return self._call("signed_consent", params, LEDGER_SECONDS)  # type: ignore[return-value]

    def grant(
        self,
        *,
        consent: str,
        patient: str,
        fhir: Json,
        replaces: str | None = None,
        signature: Json | None = None,
        signature_required: bool = False,
    ) -> Submitted:
        """Keep the opening and put its commitment on the ledger; repeat it freely."""
        params = {
            "consent": consent,
            "patient": patient,
            "fhir": fhir,
            "replaces": replaces,
            "signature": signature,
            "signature_required": signature_required,
        }
        return self._call("grant", params, LEDGER_SECONDS)  # type: ignore[return-value]

    def grant_many(self, *, grants: Sequence[Json]) -> dict[str, Submitted]:
        """`grant` for each of its arguments but `replaces`, in one transaction; answers by consent."""
        found: dict[str, Submitted] = self._call("grant_many", {"grants": list(grants)}, LEDGER_SECONDS)[
            "answers"
        ]
        return found

    def stop(self, *, consent: str) -> None:
        """From when this returns nothing is opened on this consent, whatever the ledger says."""
        self._call("stop", {"consent": consent})

    def kept_openings(self, *, commitments: Mapping[str, str]) -> dict[str, KeptOpening]:
        """Whether the openings kept there fit these commitments (hex, by consent), and what is stopped."""
        asked = [{"consent": consent, "commitment": value} for consent, value in commitments.items()]
        found: dict[str, KeptOpening] = self._call("kept_openings", {"consents": asked}, LEDGER_SECONDS)[
            "consents"
        ]
        return found

    def erase(self, *, patient: str) -> Erased:
        """Destroy the patient's keys, and so every record, opening and detail that was sealed under them.

        There is no way back. Harmless to repeat. Raises RefusedTransition (`erasures_exceeded`).
        """
        found: Erased = self._call("erase", {"patient": patient})  # type: ignore[assignment]
        return found

    def erased(self, *, patients: Sequence[str]) -> list[str]:
        """Those of these patients whose keys were destroyed: a database of before may still know them."""
        found: list[str] = self._call("erased", {"patients": list(patients)})["patients"]
        return found

    def log_page(self, *, after: int, limit: int = 1000) -> LogPage:
        """Rows of the log of openings after the row `after`, for reconciliation. Nothing is opened."""
        found: LogPage = self._call("log_page", {"after": after, "limit": limit})  # type: ignore[assignment]
        return found

    def openings_of(self, *, places: Iterable[tuple[str, str | None]]) -> Iterator[OpeningOf]:
        """What was opened for these places: a job's leg and a subject of it, or an access and None. By ids
        alone; nothing is opened. Raises EnvelopeError (`log_tampered`).
        """
        left = iter(places)
        while page := list(islice(left, PLACES_AT_ONCE)):
            asked = [{"reference": reference, "subject": subject} for reference, subject in page]
            yield from self._call("openings_of", {"places": asked})["openings"]

    def file_openings(self) -> None:
        """Have what the log holds filed by job, so that a recall reads it at once; harmless to repeat.

        Raises EnvelopeError (`log_tampered`).
        """
        while self._call("file_openings", {}, LEDGER_SECONDS)["left"]:
            pass

    def filed_openings(self, *, references: Sequence[str]) -> Iterator[tuple[str, list[Filed]]]:
        """All that was opened for these jobs' legs or accesses; one may come several times, in order.

        Each row of the log was held against the one before it when it was filed, not anew for each question
        (`check_files`). Raises EnvelopeError (`log_tampered`).
        """
        for first in range(0, len(references), REFERENCES_AT_ONCE):
            asked, after = [*references[first : first + REFERENCES_AT_ONCE]], 0
            while asked:
                found = self._call("filed_openings", {"references": asked, "after": after}, LEDGER_SECONDS)
                for one in found["files"]:
                    yield one["reference"], one["openings"]
                following = found["next"]
                asked = asked[asked.index(following["reference"]) :] if following else []
                after = following["shelf"] if following else 0

    def check_files(self) -> Iterator[int]:
        """Shelves of the log of openings whose files are not what its rows say; the first of each stretch."""
        after, more = 0, True
        while more:
            found = self._call("check_files", {"after": after}, LEDGER_SECONDS)
            if found["bad"] is not None:
                yield found["bad"]
            after, more = found["last"], found["more"]

    # Jobs

    def output_key(self) -> bytes:
        """The X25519 public key (32 bytes) that outputs are sealed to."""
        return bytes.fromhex(self._call("output_key", {})["key"])

    def height(self, *, channel: str = HOME) -> int:
        """How many blocks the channel's ledger has now. Raises LedgerError."""
        return int(self._call("height", {"channel": channel}, LEDGER_SECONDS)["height"])

    def release(
        self, *, job: str, attempt: int, request: Json, parts: Sequence[Part], channel: str = HOME
    ) -> Released:
        """Pass the first door, on the channel that every patient named is on; a job id is of one channel.

        Raises RefusedTransition, LedgerError.
        """
        params = {
            "attempt": attempt,
            "channel": channel,
            "job": job,
            "parts": list(parts),
            "request": request,
        }
        return self._call("release", params, LEDGER_SECONDS)  # type: ignore[return-value]

    def open_chunks(
        self, *, job: str, attempt: int, part: int, subject: str, after: str | None = None, limit: int = 1
    ) -> WrappedChunks:
        """The next permitted chunks of a subject, keys wrapped to the part's public key.

        `after` is the last chunk had before. Raises AccessDenied with the code of the check that said no.
        """
        found = self._call(
            "open_chunks",
            {
                "job": job,
                "attempt": attempt,
                "part": part,
                "subject": subject,
                "after": after,
                "limit": limit,
            },
            LEDGER_SECONDS,
        )
        for chunk in found["chunks"]:
            chunk["wrapped"] = from_b64(chunk.pop("wrapped_b64"))
        return found  # type: ignore[return-value]

    def deliver(self, *, job: str, attempt: int, outputs: Sequence[OutputDigest]) -> Delivered:
        """Pass the second door. Raises RefusedTransition, LedgerError."""
        params = {"job": job, "attempt": attempt, "outputs": list(outputs)}
        return self._call("deliver", params, LEDGER_SECONDS)  # type: ignore[return-value]

    def open_output(self, *, job: str, digest: str, sealed: bytes) -> bytes:
        """A delivered output in clear, while its consents are in force. Raises AccessDenied."""
        params = {"job": job, "digest": digest, "sealed_b64": to_b64(sealed)}
        return from_b64(self._call("open_output", params, LEDGER_SECONDS)["output_b64"])

    # Persons

    def clinician_signers(self, *, clinician: str) -> Signers:
        """Which passkeys confirm emergencies of this member of staff, by her pseudonym."""
        return self._call("clinician_signers", {"clinician": clinician})  # type: ignore[return-value]

    def enrol_clinician(
        self, *, clinician: str, credential: str, public_key: bytes, voucher: Json | None = None
    ) -> int:
        """As `enrol_passkey`, for a member of staff."""
        params = {
            "clinician": clinician,
            "credential": credential,
            "public_key_b64": to_b64(public_key),
            "voucher": voucher,
        }
        return int(self._call("enrol_clinician", params)["since"])

    def signed_emergency(self, *, access: str) -> SignedEmergency:
        """What shows others that the clinician signed. Raises RefusedTransition (`not_signed`)."""
        return self._call("signed_emergency", {"access": access}, LEDGER_SECONDS)  # type: ignore[return-value]

    def emergency_access(
        self, *, access: str, patient: str, details: Json, expires: int, signature: Json | None = None
    ) -> Submitted:
        """Break-glass for one person and one patient, until `expires` (seconds since 1970, an hour ahead).

        `signature`: an assertion of `ledger.webauthn.access_digest`, if `details` have `confirmed` passkey.
        Raises RefusedTransition (`emergencies_too_many`, `emergencies_off`, `access_expiry`, or what is
        wrong with the signature).
        """
        params = {
            "access": access,
            "patient": patient,
            "details": details,
            "expires": expires,
            "signature": signature,
        }
        return self._call("emergency_access", params, LEDGER_SECONDS)  # type: ignore[return-value]

    def complete_emergencies(self, *, channel: str = HOME) -> Completed:
        """Have the other organisations say on the ledger that they saw the emergencies that ours recorded.

        Raises LedgerError where too few of them answer: ask again. Emergencies open all the same.
        """
        return self._call("complete_emergencies", {"channel": channel}, LEDGER_SECONDS)  # type: ignore[return-value]

    def emergency_completed(self, *, access: str) -> bool:
        """Whether the other organisations said on the ledger that they saw it."""
        return bool(self._call("emergency_completed", {"access": access})["completed"])

    def end_emergency(self, *, access: str) -> None:
        """From when this returns nothing is opened by this emergency, whatever the ledger says."""
        self._call("end_emergency", {"access": access})

    def emergency_index(self, *, access: str) -> list[ChunkHeader]:
        """What there is of the emergency's patient; nothing is opened. Raises AccessDenied."""
        found: list[ChunkHeader] = self._call("emergency_index", {"access": access})["chunks"]
        return found

    def read_emergency(self, *, access: str, sealed: Mapping[str, bytes]) -> dict[str, bytes]:
        """The records (NDJSON by chunk) in these blobs of the emergency's patient, 32 MiB at most.

        Raises AccessDenied, EnvelopeError, LedgerError.
        """
        return self._read("read_emergency", access, sealed)

    def own_copy(self, *, access: str, patient: str, expires: int, voucher: Json | None = None) -> Submitted:
        """The patient's own copy, to be had until `expires` (seconds since 1970, an hour ahead); repeat it
        freely. `voucher` is her assertion of `ledger.webauthn.copy_challenge`, needed where a passkey of hers
        is known. Raises RefusedTransition (`copies_too_many`, `signing_quiet`, `access_expiry`),
        SignatureRefused (`voucher_missing`, …).
        """
        params = {"access": access, "patient": patient, "expires": expires, "voucher": voucher}
        return self._call("own_copy", params, LEDGER_SECONDS)  # type: ignore[return-value]

    def own_copy_index(self, *, access: str) -> list[ChunkHeader]:
        """What there is for the copy; nothing is opened. Raises AccessDenied."""
        found: list[ChunkHeader] = self._call("own_copy_index", {"access": access})["chunks"]
        return found

    def read_own_copy(self, *, access: str, sealed: Mapping[str, bytes]) -> dict[str, bytes]:
        """The records (NDJSON by chunk) in these blobs of the patient whose copy it is, 32 MiB at most.

        Raises AccessDenied, EnvelopeError, LedgerError.
        """
        return self._read("read_own_copy", access, sealed)

    def _read(self, method: str, access: str, sealed: Mapping[str, bytes]) -> dict[str, bytes]:
        chunks = [{"chunk": chunk, "sealed_b64": to_b64(blob)} for chunk, blob in sealed.items()]
        found = self._call(method, {"access": access, "chunks": chunks}, LEDGER_SECONDS)
        return {one["chunk"]: from_b64(one["ndjson_b64"]) for one in found["records"]}

    def access_told(self, *, access: str) -> AccessTold:
        """What was asked for under this id. Raises RefusedTransition (`access_unknown`)."""
        return self._call("access_told", {"access": access})  # type: ignore[return-value]

    def evidence(self, *, tx_id: str) -> Json:
        """The ledger's evidence for one of its transactions (`Ledger.evidence`). Raises LedgerError."""
        return self._call("evidence", {"tx_id": tx_id}, LEDGER_SECONDS)

    def status(self) -> Status:
        """Heights, counts, and what is enforced on this machine."""
        return self._call("status", {})  # type: ignore[return-value]

    def close(self) -> None:
        self._connection.close()


def _sent(chunks: Iterable[HeldChunk]) -> list[Json]:
    return [
        {
            "chunk": one["chunk"],
            "version": one["version"],
            "blob_b64": to_b64(one["blob"]),
            "notes_b64": to_b64(one["notes"]),
            "names": one.get("names", []),
            **({"patient": one["patient"]} if "patient" in one else {}),
        }
        for one in chunks
    ]


def _regrouped(found: Json) -> RegroupedChunks:
    for one in found["chunks"]:
        one["blob"], one["notes"] = from_b64(one.pop("blob_b64")), from_b64(one.pop("notes_b64"))
    found["notes"] = {one["chunk"]: from_b64(one["notes_b64"]) for one in found["notes"]}
    return found  # type: ignore[return-value]
