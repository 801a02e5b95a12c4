"""JSON from strangers: what is not strict JSON within bounds is refused, each with a code of its own."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.records.strict_json import MAX_DEPTH, MAX_RESOURCE_BYTES, Refused, read


def test_a_resource_is_read_with_its_references() -> None:
    parsed = read(b'{"a": [{"reference": "Patient/1"}], "contained": [{"resourceType": "Patient"}]}')
    assert parsed.references == ["Patient/1"]
    assert parsed.nested == ["Patient"]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b'{"a": 1', "malformed_json"),
        (b'{"a": 1} x', "malformed_json"),
        (b"{'a': 1}", "malformed_json"),
        (b'{"a": NaN}', "malformed_json"),
        (b'{"a": Infinity}', "malformed_json"),
        (b'{"a": -Infinity}', "malformed_json"),
        (b'{"a": 1e999}', "number_too_large"),
        (b'{"a": ' + b"1" * 10**6 + b"}", "number_too_long"),
        (b'{"a": 0.' + b"1" * 10**6 + b"}", "number_too_long"),
        (b'{"a": ' + b"[" * 10**5 + b"]" * 10**5 + b"}", "too_deep"),
        (b'{"a": ' + b"[" * 10**5, "too_deep"),
        (b'{"a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "too_deep"),
        (b'{"a": "\\ud800"}', "lone_surrogate"),
        (b'{"\\udfff": 1}', "lone_surrogate"),
        (b'{"a": "\xff"}', "not_utf8"),
        (b'{"a": "\xed\xa0\x80"}', "not_utf8"),
        (b"\xef\xbb\xbf{}", "byte_order_mark"),
        (b'{"a": 1, "a": 1}', "duplicate_key"),
        (b'{"a" : 1, "a": 1}', "duplicate_key"),
        (b'{"a"\n: 1, "a"\t:2}', "duplicate_key"),
        (b'{"b": [{"a": 1, "\\u0061": 2}]}', "duplicate_key"),
        (b'{"a": "\\":", "a": 1}', "duplicate_key"),
        (b'{"a" :1, "a" :1, "b": "\\":\\":"}', "duplicate_key"),
        (b"[]", "not_an_object"),
        (b"1", "not_an_object"),
        (b'{"a": "' + b"x" * MAX_RESOURCE_BYTES + b'"}', "resource_too_large"),
    ],
)
def test_what_is_refused(raw: bytes, code: str) -> None:
    with pytest.raises(Refused) as refused:
        read(raw)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "raw",
    [
        b'{"div": "<a class=\\"x\\": y>", "a" : 1}',
        b'{"data": "' + b"1" * 5000 + b'"}',
        b'{"a": ' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}",
        '{"a": "\\ud83d\\ude00 é"}'.encode(),
    ],
)
def test_what_only_looks_wrong_is_read(raw: bytes) -> None:
    assert read(raw).body == json.loads(raw)


def test_an_error_says_where() -> None:
    with pytest.raises(Refused) as refused:
        read(b'{"a": tru}')
    assert refused.value.offset is not None
    assert 5 <= refused.value.offset <= 9


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('a":\\ ', max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(body=st.dictionaries(st.text('a":\\ ', max_size=3), _json, max_size=4), spaced=st.booleans())
def test_json_without_a_duplicate_is_never_refused(body: dict[str, object], spaced: bool) -> None:
    raw = json.dumps(body, separators=(" ,", " : ") if spaced else (",", ":")).encode()
    assert read(raw).body == body


@given(body=st.dictionaries(st.text('a":\\ ', max_size=3), _json, min_size=1, max_size=4), data=st.data())
def test_a_duplicate_is_always_refused(body: dict[str, object], data: st.DataObject) -> None:
    again = data.draw(st.sampled_from(sorted(body)))
    raw = json.dumps(body)[:-1] + data.draw(st.sampled_from([",", " , "])) + json.dumps(again)
    with pytest.raises(Refused, match="duplicate_key"):
        read((raw + data.draw(st.sampled_from([":", " :", "\n: "])) + '"x"}').encode())
