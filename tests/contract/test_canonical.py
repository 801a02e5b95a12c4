"""Strict JSON in, canonical JSON out."""

from decimal import Decimal

import pytest

from ledger.contract import canonical
from ledger.contract.errors import Refused


def test_it_is_the_form_of_rfc_8785() -> None:
    value = {"b": [1, True, None, "é\n\u0001"], "a": {"z": "", "A": -5}}
    assert canonical.dumps(value) == '{"a":{"A":-5,"z":""},"b":[1,true,null,"é\\n\\u0001"]}'.encode()
    assert canonical.loads(canonical.dumps(value)) == value


@pytest.mark.parametrize(
    "value", [1.5, float("nan"), 2**53, {"é": 1}, {1: 2}, "\ud800", {1, 2}, b"", Decimal(1)]
)
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(Refused) as refusal:
        canonical.dumps([value])
    assert refusal.value.code == "not_canonical"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"a":1} x',
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b"NaN",
        b"[-Infinity]",
        b"1.5",
        b"1e5",
        b"9007199254740992",
        b"9" * 1_000_000,
        b"-" + b"9" * 1_000_000,
        b'"\\ud800"',
        b'{"\\udc00":1}',
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"[" * 65 + b"]" * 65,
        b'"' + b"x" * 2000 + b'"',
    ],
    ids=lambda data: data[:12].decode("latin-1") + f"~{len(data)}",
)
def test_malformed_json_is_refused_with_one_code(data: bytes) -> None:
    with pytest.raises(Refused) as refusal:
        canonical.loads(data, limit=2000 if len(data) == 2002 else canonical.MAX_BYTES)
    assert refusal.value.code == "malformed_json"


def test_depth_does_not_depend_on_the_stack() -> None:
    assert canonical.loads(b"[" * 64 + b"]" * 64)
    assert canonical.loads(b'"\\ud83d\\ude00"') == "😀"


def test_decimals_where_the_caller_wants_them() -> None:
    assert canonical.loads(b"[1.50, 12345678901234567890]", decimals=True) == [
        Decimal("1.50"),
        12345678901234567890,
    ]
    for data in (b"1" * 1_000_000, b"1." + b"0" * 1_000_000, b"NaN"):
        with pytest.raises(Refused):
            canonical.loads(data, decimals=True)


def test_only_the_canonical_form_itself_is_canonical() -> None:
    assert canonical.load_canonical(b'{"a":1}') == {"a": 1}
    for data in (b'{"a": 1}', b'{"b":1,"a":1}', b'"\\u0041"'):
        with pytest.raises(Refused) as refusal:
            canonical.load_canonical(data)
        assert refusal.value.code == "not_canonical"
