"""Sealed chunks as the database keeps them, on their way to the keyholder."""

from collections.abc import Iterable, Iterator, Sequence

from django.db.models import QuerySet
from django.db.models.functions import Length

from gateway.keyholder.client import HeldChunk
from gateway.keyholder.regrouping import CUSTODIAN
from gateway.records.models import Chunk, ResourceVersion

MOST_NOTES = 8 * 1024 * 1024  # of one question to the keyholder


def held(chunks: Sequence[str], *, blobs: bool, named: bool = False) -> list[HeldChunk]:
    """These chunks as the keyholder takes them."""
    rows = Chunk.objects.filter(pk__in=chunks)
    if not blobs:
        rows = rows.defer("blob")
    found: list[HeldChunk] = []
    for one in rows:
        sent: HeldChunk = {
            "chunk": one.pk,
            "version": one.version,
            "blob": bytes(one.blob) if blobs else b"",
            "notes": bytes(one.notes),
            "patient": one.patient_id or CUSTODIAN,
        }
        if named:
            versions = ResourceVersion.objects.filter(chunk=one).order_by("pk")
            sent["names"] = list(versions.values_list("name", flat=True))
        found.append(sent)
    return found


def batches(chunks: QuerySet[Chunk]) -> Iterator[list[str]]:
    """Their ids, as many together as one question carries the notes of."""
    return in_parts(chunks.annotate(size=Length("notes")).values_list("pk", "size"), MOST_NOTES)


def in_parts(sized: Iterable[tuple[str, int]], most: int) -> Iterator[list[str]]:
    """Chunks with their sizes, in groups of at most `most` bytes (but for a single one that is larger)."""
    part: list[str] = []
    room = most
    for chunk, size in sized:
        if part and size > room:
            yield part
            part, room = [], most
        part.append(chunk)
        room -= size
    if part:
        yield part
