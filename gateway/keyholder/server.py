"""The keyholder's process: its socket, who may call what, and what it does to keep its memory to itself."""

import ctypes
import os
import pwd
import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.keyholder.envelope import new_key
from gateway.keyholder.opening import JobRelease
from gateway.keyholder.params import Params
from gateway.keyholder.regrouping import Changes, Held, Regrouped
from gateway.keyholder.service import Service
from gateway.keyholder.store import Header
from ledger.contract.state import Json
from ledger.errors import AccessDenied, InvalidInput
from ledger.rpc import Method, Server, serve, to_b64
from ledger.webauthn import Assertion

PR_SET_DUMPABLE = 4

# What an account of each role may call. `status` is everybody's.
MOST_AT_ONCE = 20_000  # patients or chunks of one call: ingest sends 2,000 records
ROLES: Mapping[str, frozenset[str]] = {
    "worker": frozenset({"output_key", "height", "release", "open_chunks", "deliver", "evidence"}),
    "web": frozenset(
        {
            "index",
            "with_kinds",
            "stop",
            "open_output",
            "draft",
            "enrol_passkey",
            "drop_passkey",
            "drop_passkeys",
            "signers",
            "signed_consent",
            "evidence",
            "clinician_signers",
            "enrol_clinician",
            "signed_emergency",
            "emergency_access",
            "emergency_completed",
            "end_emergency",
            "emergency_index",
            "read_emergency",
            "access_told",
            "openings_of",
            "file_openings",
            "filed_openings",
            "own_copy",
            "own_copy_index",
            "read_own_copy",
            "resource_name",
            "restrict_chunk",
            "withhold_followers",
        }
    ),
    "relay": frozenset(
        {
            "grant",
            "grant_many",
            "stop",
            "confirm_chunks",
            "regroup",
            "survey",
            "relabel",
            "replace_chunks",
            "kept_openings",
            "log_page",
            "file_openings",
            "check_files",
            "erase",
            "erased",
            "access_told",
            "complete_emergencies",
        }
    ),
    "ingest": frozenset(
        {
            "enrol",
            "new_chunks",
            "enrol_many",
            "new_chunks_many",
            "confirm_chunks",
            "index",
            "regroup",
            "survey",
            "relabel",
            "replace_chunks",
        }
    ),
}
ONE_ACCOUNT = "process boundary not enforced: one account"
SEPARATE = "process boundary enforced: the callers' accounts are not the keyholder's"


def harden() -> None:
    """No core dump, no reading of this process's memory by its own account, files for the owner alone."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def roles_of(allow: list[str]) -> dict[int, set[str]]:
    """`ROLE=ACCOUNT` (a name or a number) as roles by uid. Raises InvalidInput."""
    found: dict[int, set[str]] = {}
    for one in allow:
        role, _, account = one.partition("=")
        if role not in ROLES or not account:
            raise InvalidInput(f"Say ROLE=ACCOUNT, with a role of: {', '.join(sorted(ROLES))}.")
        try:
            uid = int(account) if account.isdecimal() else pwd.getpwnam(account).pw_uid
        except KeyError:
            raise InvalidInput("There is no such account on this machine.") from None
        found.setdefault(uid, set()).add(role)
    return found


def start(
    service: Service,
    socket: Path,
    *,
    roles: Mapping[int, set[str]] | None = None,
    group: str | None = None,
) -> Server:
    """Serve the calls. Without `roles` this account alone may call, and in every role."""
    own = os.geteuid()
    allowed = dict(roles) if roles else {own: set(ROLES)}
    enforced = own not in allowed
    boundary = {"boundary": SEPARATE if enforced else ONE_ACCOUNT, "enforced": enforced}

    def may_call(name: str, uid: int) -> bool:
        return any(name in ROLES[role] for role in allowed.get(uid, ()))

    def guarded(name: str, call: Callable[[Params], Json]) -> Method:
        def method(params: Json, uid: int) -> Json:
            if not may_call(name, uid):
                raise AccessDenied("This account may not make this call.", code="call_refused")
            return call(Params(params))

        return method

    methods = {name: guarded(name, call) for name, call in _calls(service).items()}
    methods["status"] = lambda params, uid: {**service.status(), **boundary}
    # Our own account may ask for the status (a supervisor does), and only for it unless it has a role.
    return serve(socket, methods, uids={own, *allowed}, group=group)


def _record_calls(service: Service) -> dict[str, Callable[[Params], Json]]:
    """Patients' keys and the headers of their chunks."""

    def enrol(params: Params) -> Json:
        service.enrol(patient=params.id("patient"), channel=params.channel())
        return {}

    def new_chunks(params: Params) -> Json:
        keys, index_key = service.new_chunks(patient=params.id("patient"), chunks=_new_headers(params))
        return {"keys": _in_hex(keys), "index_key": index_key.hex()}

    def enrol_many(params: Params) -> Json:
        channels = params.texts_by_id("channels")
        _bound(len(channels))
        return {"index_keys": _in_hex(service.enrol_many(channels=channels))}

    def new_chunks_many(params: Params) -> Json:
        rows = params.each("patients")
        chunks = {row.id("patient"): _new_headers(row) for row in rows}
        _bound(sum(map(len, chunks.values())))
        if len(chunks) < len(rows):
            raise InvalidInput("A patient is named twice.")
        return {"keys": _in_hex(service.new_chunks_many(chunks=chunks))}

    def confirm_chunks(params: Params) -> Json:
        service.confirm_chunks(chunks=_versions(params, "chunks"))
        return {}

    def regroup(params: Params) -> Json:
        return _regrouped(
            service.regroup(
                act=params.id("act"),
                patient=params.id("patient"),
                chunks={row.id("chunk"): _held(row) for row in params.each("chunks")},
                changes=Changes.read(params.json("changes")),
            )
        )

    def survey(params: Params) -> Json:
        doubt = service.survey(
            patient=params.id("patient"),
            chunks={row.id("chunk"): _held(row) for row in params.each("chunks")},
            followed=params.flag("followed"),
        )
        return {"ranks": dict(doubt.ranks), "followed": doubt.followed}

    def relabel(params: Params) -> Json:
        neighbours = None
        if params.flag("has_neighbours"):
            neighbours = {
                row.id("chunk"): (row.id("patient"), _held(row)) for row in params.each("neighbours")
            }
        return _regrouped(
            service.relabel(
                act=params.id("act"),
                patient=params.id("patient"),
                chunks={row.id("chunk"): _held(row) for row in params.each("chunks")},
                neighbours=neighbours,
            )
        )

    def named(params: Params) -> Json:
        return {"name": service.resource_name(resource=params.long_text("resource"))}

    def restrict_chunk(params: Params) -> Json:
        service.restrict_chunk(
            patient=params.id("patient"),
            chunk=params.id("chunk"),
            version=params.number("version", least=1),
            label=params.text("label"),
        )
        return {}

    def withhold_followers(params: Params) -> Json:
        service.withhold_followers(
            patient=params.id("patient"),
            chunk=params.id("chunk"),
            version=params.number("version", least=1),
            chunks={row.id("chunk"): _held(row) for row in params.each("chunks")},
        )
        return {}

    def replace_chunks(params: Params) -> Json:
        service.replace_chunks(
            patient=params.id("patient"),
            confirm=_versions(params, "confirm"),
            retire=_versions(params, "retire"),
        )
        return {}

    def index(params: Params) -> Json:
        return {"index": service.index(patient=params.id("patient"))}

    def with_kinds(params: Params) -> Json:
        return {"patients": service.with_kinds(patients=params.ids("patients"), kinds=params.texts("kinds"))}

    return {
        "enrol": enrol,
        "new_chunks": new_chunks,
        "enrol_many": enrol_many,
        "new_chunks_many": new_chunks_many,
        "confirm_chunks": confirm_chunks,
        "regroup": regroup,
        "survey": survey,
        "relabel": relabel,
        "resource_name": named,
        "restrict_chunk": restrict_chunk,
        "withhold_followers": withhold_followers,
        "replace_chunks": replace_chunks,
        "index": index,
        "with_kinds": with_kinds,
    }


def _signing_calls(service: Service) -> dict[str, Callable[[Params], Json]]:
    """What the patient signs, and which passkeys sign."""

    def draft(params: Params) -> Json:
        return service.signing.draft(
            consent=params.id("consent"), patient=params.id("patient"), fhir=params.json("fhir")
        )

    def enrol_passkey(params: Params) -> Json:
        return service.signing.enrol_passkey(
            patient=params.id("patient"),
            credential=params.hex("credential"),
            public_key=params.blob("public_key"),
            voucher=_assertion(params, "voucher"),
        )

    def drop_passkey(params: Params) -> Json:
        service.drop_passkey(
            credential=params.hex("credential"),
            patient=params.optional_id("patient"),
            clinician=params.optional_id("clinician"),
        )
        return {}

    def drop_passkeys(params: Params) -> Json:
        return service.signing.drop_passkeys(patient=params.id("patient"))

    def signers(params: Params) -> Json:
        return service.signing.signers(params.id("patient"))

    def signed_consent(params: Params) -> Json:
        return service.signed_consent(consent=params.id("consent"), patient=params.id("patient"))

    def clinician_signers(params: Params) -> Json:
        return service.clinicians.signers(params.id("clinician"))

    def enrol_clinician(params: Params) -> Json:
        return service.clinicians.enrol(
            clinician=params.id("clinician"),
            credential=params.hex("credential"),
            public_key=params.blob("public_key"),
            voucher=_assertion(params, "voucher"),
        )

    def signed_emergency(params: Params) -> Json:
        return service.signed_emergency(access=params.id("access"))

    return {
        "draft": draft,
        "enrol_passkey": enrol_passkey,
        "drop_passkey": drop_passkey,
        "drop_passkeys": drop_passkeys,
        "signers": signers,
        "signed_consent": signed_consent,
        "clinician_signers": clinician_signers,
        "enrol_clinician": enrol_clinician,
        "signed_emergency": signed_emergency,
    }


def _assertion(params: Params, name: str) -> Assertion | None:
    value = params.optional_json(name)
    return None if value is None else Assertion.from_json(value)


def _calls(service: Service) -> dict[str, Callable[[Params], Json]]:
    """Every call but `status`: parse, one call of the service, answer."""

    def grant(params: Params) -> Json:
        return service.grant(**_grant(params), replaces=params.optional_id("replaces"))

    def grant_many(params: Params) -> Json:
        return {"answers": service.grant_many(grants=[_grant(row) for row in params.each("grants")])}

    def stop(params: Params) -> Json:
        service.stop(consent=params.id("consent"))
        return {}

    def kept_openings(params: Params) -> Json:
        asked = {row.id("consent"): row.id("commitment") for row in params.each("consents")}
        return {"consents": service.kept_openings(commitments=asked)}

    def erase(params: Params) -> Json:
        return service.erase(patient=params.id("patient"))

    def erased(params: Params) -> Json:
        return {"patients": service.erased(patients=params.ids("patients"))}

    def log_page(params: Params) -> Json:
        return service.log_page(after=params.number("after"), limit=params.number("limit", least=1))

    def openings_of(params: Params) -> Json:
        places = [(one.id("reference"), one.optional_id("subject")) for one in params.each("places")]
        return {"openings": service.openings_of(places=places)}

    def file_openings(params: Params) -> Json:
        return {"left": service.file_openings()}

    def filed_openings(params: Params) -> Json:
        return service.filed_openings(references=params.ids("references"), after=params.number("after"))

    def check_files(params: Params) -> Json:
        return service.check_files(after=params.number("after"))

    def output_key(params: Params) -> Json:
        return {"key": service.output_key().hex()}

    def height(params: Params) -> Json:
        return {"height": service.height(channel=params.text("channel"))}

    def release(params: Params) -> Json:
        return service.release(
            channel=params.channel(),
            job=params.id("job"),
            attempt=params.number("attempt", least=1),
            request=params.json("request"),
            parts=_parts(params),
        )

    def open_chunks(params: Params) -> Json:
        opened = service.open_chunks(
            JobRelease(
                job=params.id("job"),
                attempt=params.number("attempt", least=1),
                part=params.number("part"),
                subject=params.id("subject"),
                after=params.optional_id("after"),
                limit=params.number("limit", least=1),
            )
        )
        chunks = [{**_described(one.header), "wrapped_b64": to_b64(one.key)} for one in opened.chunks]
        return {"chunks": chunks, "rules": opened.rules, "more": opened.more}

    def deliver(params: Params) -> Json:
        outputs = [
            {"subjects": row.ids("subjects"), "digest": row.id("digest")} for row in params.each("outputs")
        ]
        if len({one["digest"] for one in outputs}) < len(outputs):
            raise InvalidInput("An output is named twice.")
        return service.deliver(
            job=params.id("job"), attempt=params.number("attempt", least=1), outputs=outputs
        )

    def open_output(params: Params) -> Json:
        output = service.open_output(
            job=params.id("job"), digest=params.id("digest"), sealed=params.blob("sealed")
        )
        return {"output_b64": to_b64(output)}

    def emergency_access(params: Params) -> Json:
        return service.emergency_access(
            access=params.id("access"),
            patient=params.id("patient"),
            details=params.json("details"),
            expires=params.number("expires"),
            signature=_assertion(params, "signature"),
        )

    def complete_emergencies(params: Params) -> Json:
        return service.complete_emergencies(channel=params.text("channel"))

    def emergency_completed(params: Params) -> Json:
        return {"completed": service.emergency_completed(access=params.id("access"))}

    def end_emergency(params: Params) -> Json:
        service.end_emergency(access=params.id("access"))
        return {}

    def emergency_index(params: Params) -> Json:
        found = service.emergency_index(access=params.id("access"))
        return {"chunks": [{**_described(one), "count": one.count} for one in found]}

    def read_emergency(params: Params) -> Json:
        return _records(service.read_emergency(access=params.id("access"), sealed=_sealed(params)))

    def own_copy(params: Params) -> Json:
        return service.own_copy(
            access=params.id("access"),
            patient=params.id("patient"),
            expires=params.number("expires"),
            voucher=_assertion(params, "voucher"),
        )

    def own_copy_index(params: Params) -> Json:
        found = service.own_copy_index(access=params.id("access"))
        return {"chunks": [{**_described(one), "count": one.count} for one in found]}

    def read_own_copy(params: Params) -> Json:
        return _records(service.read_own_copy(access=params.id("access"), sealed=_sealed(params)))

    def access_told(params: Params) -> Json:
        return service.access_told(access=params.id("access"))

    return {
        **_record_calls(service),
        **_signing_calls(service),
        "grant": grant,
        "grant_many": grant_many,
        "stop": stop,
        "kept_openings": kept_openings,
        "erase": erase,
        "erased": erased,
        "log_page": log_page,
        "openings_of": openings_of,
        "file_openings": file_openings,
        "filed_openings": filed_openings,
        "check_files": check_files,
        "evidence": lambda params: service.evidence(tx_id=params.id("tx_id")),
        "output_key": output_key,
        "height": height,
        "release": release,
        "open_chunks": open_chunks,
        "deliver": deliver,
        "open_output": open_output,
        "emergency_access": emergency_access,
        "complete_emergencies": complete_emergencies,
        "emergency_completed": emergency_completed,
        "end_emergency": end_emergency,
        "emergency_index": emergency_index,
        "read_emergency": read_emergency,
        "own_copy": own_copy,
        "own_copy_index": own_copy_index,
        "read_own_copy": read_own_copy,
        "access_told": access_told,
    }


def _grant(params: Params) -> Json:
    """What is granted, as `Service.grant` takes it."""
    return {
        "consent": params.id("consent"),
        "patient": params.id("patient"),
        "fhir": params.json("fhir"),
        "signature": params.optional_json("signature"),
        "signature_required": params.flag("signature_required"),
    }


def _sealed(params: Params) -> dict[str, bytes]:
    return {row.id("chunk"): row.blob("sealed") for row in params.each("chunks")}


def _records(records: Mapping[str, bytes]) -> Json:
    return {"records": [{"chunk": chunk, "ndjson_b64": to_b64(one)} for chunk, one in records.items()]}


def _bound(many: int) -> None:
    """One call holds the store, for which a stop waits too."""
    if many > MOST_AT_ONCE:
        raise InvalidInput(f"One call takes {MOST_AT_ONCE:,} at most.", code="too_many")


def _new_headers(row: Params) -> list[Header]:
    """Of chunks that are to be sealed, each with a data key of its own."""
    return [
        Header(
            chunk=one.id("chunk"),
            version=one.number("version", least=1),
            resource_type=one.text("resource_type"),
            labels=tuple(sorted(one.texts("labels"))),
            count=one.number("count"),
            dek=new_key(),
        )
        for one in row.each("chunks")
    ]


def _in_hex(keys: Mapping[str, bytes]) -> Json:
    return {name: key.hex() for name, key in keys.items()}


def _held(row: Params) -> Held:
    return Held(row.number("version", least=1), row.blob("blob"), row.blob("notes"), row.texts("names"))


def _versions(params: Params, name: str) -> list[tuple[str, int]]:
    return [(row.id("chunk"), row.number("version", least=1)) for row in params.each(name)]


def _regrouped(found: Regrouped) -> Json:
    return {
        "chunks": [
            {
                "chunk": one.header.chunk,
                "version": one.header.version,
                "blob_b64": to_b64(one.blob),
                "notes_b64": to_b64(one.notes),
                "lines": one.lines,
            }
            for one in found.chunks
        ],
        "notes": [{"chunk": chunk, "notes_b64": to_b64(notes)} for chunk, notes in found.notes.items()],
        "retired": list(found.retired),
        "wanted": list(found.wanted),
        "waiting": list(found.waiting),
    }


def _parts(params: Params) -> list[Json]:
    parts: list[Json] = [
        {
            "part": row.number("part"),
            "key": row.id("key"),
            "subjects": [
                {"subject": one.id("subject"), "patient": one.id("patient")} for one in row.each("subjects")
            ],
        }
        for row in params.each("parts")
    ]
    numbers = [part["part"] for part in parts]
    subjects = [one["subject"] for part in parts for one in part["subjects"]]
    if len(set(numbers)) < len(numbers) or len(set(subjects)) < len(subjects):
        raise InvalidInput("A part or a subject is named twice.")
    return parts


def _described(header: Header) -> Json:
    return {
        "chunk": header.chunk,
        "version": header.version,
        "resource_type": header.resource_type,
        "labels": list(header.labels),
    }
