"""Every drill of a real Fabric channel; without Fabric's binaries they are skipped, visibly."""

from typing import Any

import pytest

from deploy.fabric.binaries import Binaries, BinariesMissing
from gateway.drills import catalogue
from gateway.drills.report import Report


def _missing() -> bool:
    try:
        Binaries.find()
    except BinariesMissing:
        return True
    return False


pytestmark = [
    pytest.mark.fabric,
    pytest.mark.skipif(_missing(), reason="no Fabric binaries in FABRIC_BIN_DIR or on PATH"),
]
QUICK = {"orderer-hung", "stale-peer"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.exhaustive])
        for name, drill in catalogue.drills().items()
        if "fabric" in drill.ledgers
    ],
)
def test_on_fabric(name: str, django_db_blocker: Any) -> None:
    if catalogue.drills()[name].network.get("bft") and Binaries.find().version() < (3, 0):
        pytest.skip("BFT ordering needs Fabric 3")
    report = Report(name, "fabric")
    with django_db_blocker.unblock():  # one of them brings a database of its own
        catalogue.run(catalogue.drills()[name], "fabric", report, {"jobs": 40, "stops": 10, "kills": 4})
    assert report.is_kept, report.as_table()
