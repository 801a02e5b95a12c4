"""Sealing and opening by themselves: what fits opens, everything else is one error."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gateway.keyholder import envelope
from gateway.keyholder.envelope import (
    MAX_CHUNK_BYTES,
    PartUnwrapper,
    PartWrapper,
    X25519PrivateKey,
    bucket,
    new_key,
    new_part_key,
    open_chunk,
    open_sealed_output,
    seal_chunk,
    seal_output,
)
from ledger.errors import EnvelopeError, InvalidInput
from tests.keyholder.house import new_id

PLACE = {"patient": new_id(), "chunk": new_id(), "version": 1}


@given(st.binary(max_size=5000))
def test_a_chunk_opens_as_it_was_sealed(lines: bytes) -> None:
    dek = new_key()
    blob = seal_chunk(dek, lines, **PLACE)
    assert open_chunk(dek, blob, **PLACE) == lines
    assert len(blob) - 28 == bucket(len(blob) - 28)


@pytest.mark.parametrize("change", [{"patient": new_id()}, {"chunk": new_id()}, {"version": 2}])
def test_a_chunk_opens_only_in_its_place(change: dict[str, object]) -> None:
    dek = new_key()
    blob = seal_chunk(dek, b"{}\n", **PLACE)
    with pytest.raises(EnvelopeError):
        open_chunk(dek, blob, **{**PLACE, **change})


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_any_changed_byte_is_found(position: int, difference: int) -> None:
    dek = new_key()
    blob = bytearray(seal_chunk(dek, b'{"resourceType":"Observation"}\n', **PLACE))
    blob[position % len(blob)] ^= difference
    with pytest.raises(EnvelopeError):
        open_chunk(dek, bytes(blob), **PLACE)


@pytest.mark.parametrize("blob", [b"", b"short", bytes(28)])
def test_what_is_no_blob_does_not_open(blob: bytes) -> None:
    with pytest.raises(EnvelopeError):
        open_chunk(new_key(), blob, **PLACE)


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    dek = new_key()
    blob = seal_chunk(dek, bytes(1_000_000), **PLACE)
    assert len(blob) < 1000
    with pytest.raises(EnvelopeError) as found:
        open_chunk(dek, blob, **PLACE, limit=999_999)
    assert found.value.code == "envelope_too_large"


@pytest.mark.parametrize("lies", ["no size", "a small size", "a long length", "no frame"])
def test_a_frame_that_lies_about_its_size_is_refused(lies: str) -> None:
    frame = zstandard.ZstdCompressor(write_content_size=lies != "no size").compress(bytes(200))
    if lies == "a small size":
        frame = frame[:5] + bytes([100]) + frame[6:]  # Frame_Content_Size, RFC 8878 section 3.1.1.1.4
        assert zstandard.frame_content_size(frame) == 100
    length = len(frame) + (1 if lies == "a long length" else 0)
    packed = length.to_bytes(4, "big") + (b"nothing" if lies == "no frame" else frame)
    dek = new_key()
    blob = envelope.seal(dek, packed, envelope.chunk_aad(**PLACE))
    with pytest.raises(EnvelopeError):
        open_chunk(dek, blob, **PLACE)


def test_what_was_refused_changes_nothing_of_what_opens_next() -> None:
    """What decompresses is made once for each thread: neither a broken frame nor a bomb stays in it."""
    dek, lines = new_key(), b'{"resourceType":"Observation"}\n' * 5000
    good = seal_chunk(dek, lines, **PLACE)
    frame = zstandard.ZstdCompressor().compress(os.urandom(50_000))
    packed = (30_000).to_bytes(4, "big") + frame[:30_000]
    broken = envelope.seal(dek, packed, envelope.chunk_aad(**PLACE))

    def opens_both(n: int) -> bool:
        for limit, blob in ((len(lines) - 1, good), (MAX_CHUNK_BYTES, broken)):
            with pytest.raises(EnvelopeError):
                open_chunk(dek, blob, **PLACE, limit=limit)
        return open_chunk(dek, good, **PLACE, limit=len(lines)) == lines

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(opens_both, range(40)))


def test_too_much_is_refused_when_it_is_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "MAX_CHUNK_BYTES", 10)
    with pytest.raises(InvalidInput) as found:
        seal_chunk(new_key(), bytes(11), **PLACE)
    assert found.value.code == "piece_too_large"


@pytest.mark.parametrize("name", ["", "zz" * 32, "00" * 31, None])
def test_a_malformed_id_is_refused(name: object) -> None:
    with pytest.raises(InvalidInput):
        seal_chunk(new_key(), b"", patient=name, chunk=new_id(), version=1)  # type: ignore[arg-type]


@given(st.integers(min_value=1, max_value=2**40))
def test_a_bucket_wastes_at_most_an_eighth(size: int) -> None:
    assert size <= bucket(size) <= max(256, size + size // 8 + 1)
    assert bucket(bucket(size)) == bucket(size)


PART = {"job": new_id(), "attempt": 1, "part": 0}
CHUNK = {"subject": new_id(), "chunk": new_id(), "version": 1}


def test_a_data_key_reaches_its_part() -> None:
    private, public = new_part_key()
    wrapper, unwrapper = PartWrapper(public, **PART), PartUnwrapper(private, **PART)
    for dek in (new_key(), new_key()):
        assert unwrapper.unwrap(wrapper.wrap(dek, **CHUNK), **CHUNK) == dek
    # Another wrapper to the same part (a keyholder that started again) has another key under it.
    assert unwrapper.unwrap(PartWrapper(public, **PART).wrap(dek, **CHUNK), **CHUNK) == dek


@pytest.mark.parametrize(
    ("part", "chunk"),
    [
        ({"job": new_id()}, {}),
        ({"attempt": 2}, {}),
        ({"part": 1}, {}),
        ({}, {"subject": new_id()}),
        ({}, {"chunk": new_id()}),
        ({}, {"version": 2}),
    ],
)
def test_a_data_key_opens_for_nothing_else(part: dict[str, object], chunk: dict[str, object]) -> None:
    private, public = new_part_key()
    wrapped = PartWrapper(public, **PART).wrap(new_key(), **CHUNK)
    with pytest.raises(EnvelopeError):
        PartUnwrapper(private, **{**PART, **part}).unwrap(wrapped, **{**CHUNK, **chunk})
    with pytest.raises(EnvelopeError):
        PartUnwrapper(new_part_key()[0], **PART).unwrap(wrapped, **CHUNK)


def test_an_output_opens_for_its_job_and_subjects() -> None:
    private = X25519PrivateKey.generate()
    public, subjects = private.public_key().public_bytes_raw(), [new_id(), new_id()]
    about = {"job": new_id(), "attempt": 1, "subjects": subjects}
    sealed = seal_output(public, b"{}", **about)
    assert open_sealed_output(private, sealed, **{**about, "subjects": subjects[::-1]}) == b"{}"
    for change in ({"job": new_id()}, {"attempt": 2}, {"subjects": subjects[:1]}):
        with pytest.raises(EnvelopeError):
            open_sealed_output(private, sealed, **{**about, **change})
