"""Inside a chunk: one resource a line, and the bytes as received come back."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.records.lines import as_received, pack, portable, resources, unpack


def test_a_resource_over_several_lines_comes_back_to_the_byte() -> None:
    received = [b'{\r\n  "value": 13.50,\n\t"a": 1\r}', b'{"b":2}']
    packed = pack(received)
    assert packed.count(b"\n") == 2
    assert [orjson.loads(line) for line in unpack(packed)] == [{"value": 13.5, "a": 1}, {"b": 2}]
    assert [raw for raw, _ in resources(packed)] == received


def test_a_chunk_is_ndjson_for_anyone() -> None:
    received = [b'{\r\n  "value": 13.50,\n\t"a": 1\r}', b'{"b":2}']
    passed_on = portable(pack(received)).split(b"\n")
    assert passed_on == [b'{    "value": 13.50, \t"a": 1 }', b'{"b":2}', b""]


@given(st.lists(st.text("\r\n\t x", min_size=1).map(str.encode), max_size=4))
def test_every_line_break_survives(received: list[bytes]) -> None:
    assert [as_received(line) for line in unpack(pack(received))] == received
