"""`manage.py score` and `manage.py models`, as programs: no database, one answer a line, exit status."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
WHOLE = {
    "age": 55, "sex": "male", "race": "white", "total_cholesterol": 213, "hdl_cholesterol": 50,
    "systolic_bp": 120, "bp_treated": False, "diabetes": False, "smoker": False,
}  # fmt: skip


def manage(*arguments: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    environment = {**os.environ, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment,
        input=given,
        capture_output=True,
        check=False,
    )


def test_a_line_in_a_score_out() -> None:
    done = manage(
        "score", "pce", given=json.dumps(WHOLE).encode() + b"\n" + json.dumps({**WHOLE, "age": 20}).encode()
    )
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert done.returncode == 0
    assert abs(first["score"] - 5.3) < 0.1
    assert (first["unit"], first["reasons"]) == ("%", [])
    assert second == {"score": None, "unit": "%", "reasons": ["age.out_of_range"]}


def test_malformed_lines_give_an_error_line_each_and_the_others_are_scored() -> None:
    bad = [
        b"not json", b"[1]", b'{"age": 1, "age": 2}', b'{"age": NaN}', b"[" * 60_000, b"9" * 60_000,
        b'{"age": "' + b"x" * 100_000 + b'"}', b"\xff\xfe",
    ]  # fmt: skip
    done = manage("score", "pce", given=b"\n".join([*bad, json.dumps(WHOLE).encode()]))
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [answer.get("line") for answer in answers] == [1, 2, 3, 4, 5, 6, 7, 8, None]
    assert answers[6]["error"] == "line_too_long"
    assert answers[2]["error"] == "duplicate_key"
    assert answers[8]["score"] is not None


def test_an_unknown_model_is_named_as_such() -> None:
    done = manage("score", "astrology", given=b"{}")
    assert done.returncode == 1
    assert b"manage.py models" in done.stderr


def test_models_lists_inputs_units_ranges_and_digests() -> None:
    text, machine = manage("models"), manage("models", "--json")
    models = {each["name"]: each for each in json.loads(machine.stdout)}
    model = models["pce"]
    assert {"framingham", "ckd-epi", "kfre-2y", "kfre-5y", "cha2ds2-vasc", "news2"} < set(models)
    assert text.returncode == machine.returncode == 0
    assert model["digest"].encode() in text.stdout
    assert {"name": "systolic_bp", "unit": "mm[Hg]", "low": "90", "high": "200"}.items() <= next(
        each for each in model["inputs"] if each["name"] == "systolic_bp"
    ).items()
    assert manage("score", model["digest"], given=json.dumps(WHOLE).encode()).returncode == 0


def test_a_reader_who_has_seen_enough_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "manage.py", "models"],
            cwd=ROOT,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
