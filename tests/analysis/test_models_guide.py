"""The model of docs/models.md, as it stands there, is a whole one."""

import re
import sys
from datetime import date
from decimal import Decimal
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from gateway.analysis import catalogue
from tests.analysis.bodies import held, measured, patient

GUIDE = Path(__file__).resolve().parent.parent.parent / "docs" / "models.md"


def sources() -> list[str]:
    """The modules of the guide, in its order."""
    return re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)


@pytest.fixture
def bmi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "bmi.py").write_text(sources()[0])
    spec = spec_from_file_location("gateway.analysis.catalogue.bmi", tmp_path / "bmi.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    model = module.BodyMassIndex()
    monkeypatch.setattr(catalogue, "MODELS", (*catalogue.MODELS, model))
    return model


def test_it_is_found_scores_and_reads_a_record(bmi: Any) -> None:
    assert catalogue.find("bmi") is catalogue.find(bmi.digest()) is bmi
    assert bmi.score({"age": 40, "weight": 70, "height": 175}).value == Decimal("22.9")
    record = held(bmi, patient(), measured("29463-7", 154, "[lb_av]"), measured("8302-2", 1.75, "m"))
    assert bmi.assess(bmi.features(record, index_date=date(2026, 6, 1))).value == Decimal("22.8")


def test_without_a_height_there_is_no_number(bmi: Any) -> None:
    record = held(bmi, patient(), measured("29463-7", 70, "kg"))
    score = bmi.assess(bmi.features(record, index_date=date(2026, 6, 1)))
    assert (score.value, score.reasons) == (None, ("height.missing",))
