"""UCUM codes as people write them."""

import pytest

from gateway.records.ucum import printed, unit_of


@pytest.mark.parametrize(
    ("code", "written"),
    [
        ("10*6/uL", "10⁶/µL"),
        ("10*-3", "10⁻³"),
        ("mm[Hg]", "mmHg"),
        ("kg/m2", "kg/m²"),
        ("mL/min/{1.73_m2}", "mL/min/1.73 m²"),
        ("Cel", "°C"),
        ("[degF]", "°F"),
        ("ug/dL", "µg/dL"),
        ("umol/L", "µmol/L"),
        ("m[iU]/L", "mIU/L"),
        ("u[iU]/mL", "µIU/mL"),
        ("[arb_u]", "[arb_u]"),
        ("{T-score}", "T-score"),
        ("{score}", "points"),
        ("a", "years"),
        ("mg/dL", "mg/dL"),
        ("%", "%"),
        ("", ""),
    ],
)
def test_a_code_as_people_write_it(code, written):
    assert printed(code) == written


def test_a_unit_in_its_own_words_is_left_alone():
    assert unit_of({"value": 1, "unit": "um2 of skin", "code": "um2"}) == "um2 of skin"
    assert unit_of({"value": 1, "unit": "kg/m2", "code": "kg/m2"}) == "kg/m²"
    assert unit_of({"value": 1, "code": "10*3/uL"}) == "10³/µL"
    assert unit_of({"value": 1}) == ""
