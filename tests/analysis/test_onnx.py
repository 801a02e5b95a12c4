"""Models that are ONNX files: what is run, what is refused, and that nothing is told to anybody."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from importlib.util import module_from_spec, spec_from_file_location
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from gateway.analysis import catalogue, part, sandbox
from ledger.errors import InvalidInput
from tests.analysis.bodies import held, measured, patient
from tests.analysis.onnx_file import logistic
from tests.analysis.test_models_guide import sources

Make = Callable[..., Any]
GIVEN = {"age": 40, "systolic_bp": 150}
WEIGHTS, BIAS = (0.05, 0.02), -7.0
NAME = "gateway.analysis.catalogue.pressure"


def by_hand(age: float, systolic: float) -> Decimal:
    exact = 100 / (1 + math.exp(-(age * WEIGHTS[0] + systolic * WEIGHTS[1] + BIAS)))
    return Decimal(exact).quantize(Decimal("0.1"))


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """The model of docs/models.md with this file beside it, in the catalogue."""

    def make(data: bytes | None = None) -> Any:
        (tmp_path / "pressure.py").write_text(sources()[1])
        (tmp_path / "pressure.onnx").write_bytes(logistic(WEIGHTS, BIAS) if data is None else data)
        spec = spec_from_file_location(NAME, tmp_path / "pressure.py")
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, NAME, module)
        spec.loader.exec_module(module)
        model = module.PressureRisk()
        monkeypatch.setattr(catalogue, "MODELS", (*catalogue.MODELS, model))
        return model

    return make


def test_without_onnxruntime_it_says_what_is_missing(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InvalidInput) as told:
        made().score(GIVEN)
    assert told.value.code == "onnx_missing"


def test_it_scores_as_the_file_says(made: Make) -> None:
    model = made()
    assert model.score(GIVEN).value == by_hand(40, 150)
    assert catalogue.find("pressure") is catalogue.find(model.digest()) is model
    record = held(model, patient(), measured("8480-6", 150, "mm[Hg]"))
    found = model.features(record, index_date=date(2026, 6, 1))
    age = float(found.inputs["age"].value)
    assert model.assess(found).value == by_hand(age, 150)


def test_what_is_missing_or_out_of_range_gives_no_number(made: Make) -> None:
    model = made()
    assert model.score({"age": 40}).reasons == ("systolic_bp.missing",)
    assert model.score({**GIVEN, "age": 4}).reasons == ("age.out_of_range",)


def test_a_number_that_the_card_does_not_allow_is_none(made: Make) -> None:
    nowhere = made(logistic((math.nan, 0.0), BIAS)).score(GIVEN)
    assert (nowhere.value, nowhere.reasons) == (None, ("result.out_of_range",))


def test_the_digest_is_over_the_files_bytes(made: Make) -> None:
    assert made().digest() == made().digest() != made(logistic(WEIGHTS, BIAS + 0.001)).digest()


def test_a_file_that_is_replaced_while_a_child_waits_is_not_what_runs(
    made: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made()
    monkeypatch.setattr(part, "MODELS", (model,))
    (digest,) = part.Part([]).models
    (tmp_path / "pressure.onnx").write_bytes(logistic(WEIGHTS, BIAS + 3))
    assert made(logistic(WEIGHTS, BIAS + 3)).digest() != digest == model.digest()
    assert model.score(GIVEN).value == by_hand(40, 150)


def test_commands_cover_it(made: Make) -> None:
    model = made()
    out = StringIO()
    call_command("models", stdout=out)
    assert f"digest {model.digest()}" in out.getvalue()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "onnx_size"),
        (b"not a model", "onnx_malformed"),
        (logistic(WEIGHTS, BIAS)[:-40], "onnx_malformed"),
        (logistic(WEIGHTS, BIAS, opset=6), "onnx_opset"),
        (logistic(WEIGHTS, BIAS, opset=99), "onnx_opset"),
        (logistic(WEIGHTS, BIAS, domain="com.example"), "onnx_opset"),
        (logistic(WEIGHTS, BIAS, outside=True), "onnx_external"),
        (logistic(WEIGHTS, BIAS, columns=3), "onnx_inputs"),
        (logistic(WEIGHTS, BIAS, kind=11), "onnx_malformed"),  # float64 times float32
    ],
)
def test_a_file_that_is_not_run(data: bytes, code: str, made: Make) -> None:
    with pytest.raises(InvalidInput) as found:
        made(data).score(GIVEN)
    assert found.value.code == code


# Where it runs

SCRIPT = """
import json, sys
from pathlib import Path
from importlib.util import module_from_spec, spec_from_file_location
from gateway.analysis import sandbox
if sys.argv[3] == "confined":
    assert sandbox.confine(parent=None) == []
name = "gateway.analysis.catalogue.pressure"
spec = spec_from_file_location(name, sys.argv[1])
module = module_from_spec(spec)
sys.modules[name] = module
spec.loader.exec_module(module)
if sys.argv[3] == "on":
    import onnxruntime
score = module.PressureRisk().score(json.loads(sys.argv[2]))
print(json.dumps({"value": str(score.value)}))
"""


def run(made: Make, home: Path, how: str) -> subprocess.CompletedProcess[bytes]:
    module = sys.modules[type(made()).__module__].__file__
    command = [sys.executable, "-c", SCRIPT, str(module), json.dumps(GIVEN), how]
    environment = {"HOME": str(home), "PYTHONPATH": str(sandbox.ROOT)}
    return subprocess.run(command, capture_output=True, env=environment, check=False, timeout=120)


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
def test_it_runs_in_the_sandbox(made: Make, tmp_path: Path) -> None:
    done = run(made, tmp_path, "confined")
    told = json.loads(done.stdout)
    assert Decimal(told["value"]) == by_hand(40, 150)
    assert b"telemetry" not in done.stderr.lower()


@pytest.mark.skipif(not sandbox.has_bubblewrap(), reason="bubblewrap does not work here")
def test_the_library_is_seen_inside_bubblewrap() -> None:
    inside = [*sandbox._bubblewrap(), sys.executable, "-c", "import onnxruntime"]
    done = subprocess.run(
        inside, capture_output=True, cwd=sandbox.ROOT, env={"ORT_DISABLE_TELEMETRY": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr


def test_its_telemetry_is_off(made: Make, tmp_path: Path) -> None:
    """With it on, the library makes an identifier of this machine and a store of what to send."""
    quiet, loud = tmp_path / "quiet", tmp_path / "loud"
    for home in (quiet, loud):
        home.mkdir()
    assert json.loads(run(made, quiet, "free").stdout)["value"] == str(by_hand(40, 150))
    assert list(quiet.rglob("*")) == []
    # Imported with it on before us, the model is not run; and what it left shows that this test can fail.
    assert b"with its telemetry on" in run(made, loud, "on").stderr
    assert [one.name for one in loud.rglob("deviceid")] == ["deviceid"]
