"""The API as its clients meet it, over HTTP: a read, a job from its submission to its result, a cohort.

`manage.py bench api`, or each by its name; `BENCH_COHORT=1000` names another size of the cohort. Each brings
up an installation of its own, with gunicorn, worker, relay, keyholder and ledger, all on this machine and
beside the one that measures.
"""

import os
import subprocess
import sys
from typing import Any

from gateway.analysis.catalogue import find
from gateway.bench import Row
from gateway.bench.served import Served

READS = 200
COHORT = int(os.environ.get("BENCH_COHORT", "200"))  # 1,000 is the most that one job takes by name
SCORES = 20_000


class OverHTTP(Row):
    """A row whose paths call an installation."""

    def setup(self) -> None:
        self.served = Served(crowd=0)
        try:
            first = self.served.run_job()
        except BaseException:
            self.served.close()
            raise
        self.job = str(first["id"])
        self.shared = [each["request"] for each in first["subjects"] if each["state"] == "delivered"]

    def before(self, path: str) -> None:
        self.served.sign_in()

    def teardown(self) -> None:
        self.served.close()


class Read(OverHTTP):
    name = "api read"
    unit = "requests"
    goal = "≥ 0.7 of the limit"
    product_is = f"GET /api/v1/jobs/<id>, {READS} times: token, scope, throttle, the job with its subjects"
    limit_is = "a bare Django view behind the same server and middleware, one JSON object"

    def product(self) -> int:
        return self._read(f"/api/v1/jobs/{self.job}")

    def limit(self) -> int:
        return self._read("/sandbox/bare")

    def _read(self, path: str) -> int:
        for _ in range(READS):
            status, _ = self.served.call("GET", path)
            if status != 200:
                raise RuntimeError(f"A read was answered with {status}.")
        return READS


class Job(OverHTTP):
    name = "job of one patient"
    unit = "jobs"
    goal = "≤ 150 ms more than two blocks and the model"
    product_is = "submit, release, open, compute in a child, deliver, and read the result; one patient"
    limit_is = "a Python process that reads the child's code and ends: each part has one of its own"

    def product(self) -> int:
        job = self.served.run_job(self.shared[:1])
        status, _ = self.served.call(
            "GET", f"/api/v1/jobs/{job['id']}/results/{job['subjects'][0]['subject']}"
        )
        if status != 200:
            raise RuntimeError(f"The result was answered with {status}.")
        return 1

    def limit(self) -> int:
        subprocess.run([sys.executable, "-c", "import gateway.analysis.part"], check=True)
        return 1


class Cohort(OverHTTP):
    name = "cohort job"
    unit = "patients"
    goal = "1,000 patients in a minute"
    product_is = f"one job over {COHORT} patients, from its submission to its end"
    limit_is = "the model's formula alone, on inputs that are there already"

    def setup(self) -> None:
        self.served = Served(crowd=COHORT)
        self.shared = self.served.requests_of_crowd()

    def product(self) -> int:
        job = self.served.run_job(self.shared)
        delivered: int = sum(each["state"] == "delivered" for each in job["subjects"])
        if delivered != len(job["subjects"]):
            raise RuntimeError("Somebody's result was not delivered.")
        return delivered

    def limit(self) -> int:
        model = find("pce")
        inputs: dict[str, Any] = {
            "age": 56, "sex": "female", "race": "white", "total_cholesterol": 213, "hdl_cholesterol": 50,
            "systolic_bp": 120, "bp_treated": False, "diabetes": False, "smoker": False,
        }  # fmt: skip
        for _ in range(SCORES):
            model.score(inputs)
        return SCORES


SEVERAL = (Read(), Job(), Cohort())
