"""What runs within the walls of a job child: one part of one attempt of one job, one patient at a time.

It speaks the frames of pipes.py. It says `{key, unenforced}` first: its X25519 public key, which dies
with it, and what this system does not enforce. Then it answers each frame with `{}` or `{"error": code}`:

    {"start": {model or export, index_date, job, attempt, part, output_key}}   hex, YYYY-MM-DD, numbers
    {"subject": {subject, patient, rules}}                              begins a subject, forgets the last
    {"chunk": {chunk, version, resource_type, labels, wrapped_b64, blob_b64}}
    {"finish": {}}   answers `{"sealed_b64"}`: the result of the subject, sealed to the keyholder; of a model
        that summarises `{}`: the subject's score is kept, and nothing else of it
    {"summarise": {subjects}}   answers `{"sealed_b64"}`: one result of all the subjects that were finished

No Django, no database, no name of a person; errors are codes, because a message could quote a record. All
that it needs is imported before it says its key: a worker may start it before there is a job (children.py).
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import orjson

from gateway.analysis.catalogue import MODELS
from gateway.analysis.catalogue.evidence import Evidence, Resource
from gateway.analysis.catalogue.model import Features, Model
from gateway.analysis.catalogue.summary import FEWEST, Summary
from gateway.analysis.exporting import Export
from gateway.analysis.fhir import result_bundle, summary_bundle
from gateway.analysis.pipes import read_frame, write_frame
from gateway.keyholder.envelope import PartUnwrapper, new_part_key, open_chunk, seal_output
from gateway.records.lines import item, resources
from ledger.contract.rules import CompiledRules
from ledger.errors import GatewayError, InvalidInput
from ledger.rpc import from_b64, to_b64


class Subject:
    """The patient of the moment: the permitted resources, in clear, in this process only."""

    def __init__(self, id: str, patient: str, rules: Any) -> None:
        self.id, self.patient, self.rules = id, patient, CompiledRules(rules)
        self.resources: list[Resource] = []

    def add(self, lines: bytes, labels: list[str]) -> None:
        for received, body in resources(lines):
            permitted, _ = self.rules.permits(item(body, labels))
            if permitted:
                reference = f"{body['resourceType']}/{body.get('id', '')}"
                self.resources.append(Resource(reference, hashlib.sha256(received).hexdigest(), body))

    def complete(self, types: frozenset[str]) -> frozenset[str]:
        """The types of which every resource without a sensitivity is permitted: none found means none."""
        return frozenset(each for each in types if self.rules.permits_chunk(each, ["N"]) == "permit")


class Part:
    """One part of one attempt of one job."""

    def __init__(self, unenforced: list[str]) -> None:
        self.unenforced = unenforced
        # By digest, taken now: code that is replaced on the disk while this waits is not what it runs.
        self.models: dict[str, Model] = {}
        for model in MODELS:
            with suppress(InvalidInput):  # one whose file is gone: the others run
                model.hold_files()
                self.models[model.digest()] = model
        self.private_key, self.public_key = new_part_key()
        self.subject: Subject | None = None
        self.scores: dict[str, Decimal | None] = {}  # of a model that summarises, by subject
        self.handlers: dict[str, Callable[[Any], dict[str, Any]]] = {
            "start": self.start,
            "subject": self.begin,
            "chunk": self.take,
            "finish": self.finish,
            "summarise": self.summarise,
        }

    def serve(self) -> int:
        """Answer frames until the worker closes the pipe."""
        write_frame(1, {"key": self.public_key.hex(), "unenforced": self.unenforced})
        while (frame := read_frame(0)) is not None:
            write_frame(1, self.answer(frame))
        return 0

    def answer(self, frame: dict[str, Any]) -> dict[str, Any]:
        try:
            ((name, given),) = frame.items()
            return self.handlers[name](given)
        except GatewayError as error:
            return {"error": error.code}
        except MemoryError:
            self.subject = None
            return {"error": "child_memory"}
        except Exception as error:  # the class alone: its text may quote a record
            return {"error": "child_failed", "kind": type(error).__name__}

    def start(self, given: dict[str, Any]) -> dict[str, Any]:
        self.job, self.attempt, self.part = given["job"], given["attempt"], given["part"]
        self.output_key = bytes.fromhex(given["output_key"])
        self.index_date = date.fromisoformat(given["index_date"])
        self.work = Export(given["export"]) if "export" in given else self._model(given["model"])
        self.unwrapper = PartUnwrapper(self.private_key, job=self.job, attempt=self.attempt, part=self.part)
        return {}

    def begin(self, given: dict[str, Any]) -> dict[str, Any]:
        self.subject = Subject(given["subject"], given["patient"], given["rules"])
        return {}

    def take(self, given: dict[str, Any]) -> dict[str, Any]:
        """Open one chunk and keep of it what the work reads and the rules permit."""
        subject = self._current()
        if given["resource_type"] not in self.work.reads:
            return {}
        chunk, version = given["chunk"], given["version"]
        key = self.unwrapper.unwrap(
            from_b64(given["wrapped_b64"]), subject=subject.id, chunk=chunk, version=version
        )
        lines = open_chunk(
            key, from_b64(given["blob_b64"]), patient=subject.patient, chunk=chunk, version=version
        )
        subject.add(lines, given["labels"])
        return {}

    def finish(self, given: dict[str, Any]) -> dict[str, Any]:
        """Compute the result, seal it, forget the subject."""
        subject, work = self._current(), self.work
        if isinstance(work, Summary):
            self.scores[subject.id] = work.assess(self.found(subject, work)[1]).value
            self.subject = None
            return {}
        if isinstance(work, Export):
            output = work.lines(subject.patient, subject.resources)
        else:
            output = self.assess(subject, work)
        self.subject = None
        sealed = seal_output(
            self.output_key, output, job=self.job, attempt=self.attempt, subjects=[subject.id]
        )
        return {"sealed_b64": to_b64(sealed)}

    def summarise(self, given: dict[str, Any]) -> dict[str, Any]:
        """One result of all that were finished, who are the subjects that the worker says, and no fewer than
        the keyholder lets out."""
        work, subjects = self.work, given["subjects"]
        if not isinstance(work, Summary) or self.scores.keys() != set(subjects) or len(subjects) < FEWEST:
            raise InvalidInput("There is no such summary.", code="child_no_summary")
        bundle = summary_bundle(
            model=work,
            spread=work.summarise(list(self.scores.values())),
            job=self.job,
            attempt=self.attempt,
            index_date=self.index_date,
            now=datetime.now(UTC),
        )
        sealed = seal_output(
            self.output_key, orjson.dumps(bundle), job=self.job, attempt=self.attempt, subjects=subjects
        )
        return {"sealed_b64": to_b64(sealed)}

    def found(self, subject: Subject, model: Model) -> tuple[Evidence, Features]:
        """What is permitted of the subject's records, and what the model finds in them."""
        evidence = Evidence(tuple(subject.resources), subject.complete(model.reads))
        return evidence, model.features(evidence, index_date=self.index_date)

    def assess(self, subject: Subject, model: Model) -> bytes:
        """The model's result as a FHIR Bundle."""
        evidence, found = self.found(subject, model)
        bundle = result_bundle(
            model=model,
            found=found,
            score=model.assess(found),
            digests=evidence.digests(),
            job=self.job,
            attempt=self.attempt,
            subject=subject.id,
            index_date=self.index_date,
            now=datetime.now(UTC),
        )
        return orjson.dumps(bundle)

    def _model(self, digest: str) -> Model:
        """Where a worker's code differs from the released model's there is none here."""
        if digest not in self.models:
            raise InvalidInput("No such model here.", code="unknown_model")
        return self.models[digest]

    def _current(self) -> Subject:
        if self.subject is None:
            raise InvalidInput("No subject was begun.", code="child_no_subject")
        return self.subject
