"""Every drill by its name: what it promises, on which ledgers it runs, and what it needs there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.drills.report import Report
from gateway.drills.rig import Rig

EMBEDDED, FABRIC = "embedded", "fabric"

Run = Callable[[Rig, Report, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Drill:
    """`ledgers`: the first is the default. `network` is what its ledgers are made with."""

    name: str
    promise: str
    ledgers: tuple[str, ...]
    run: Run
    network: Mapping[str, Any] = field(default_factory=dict)


def drills() -> dict[str, Drill]:
    """In the order in which they are listed."""
    from gateway.drills import channels, chaos, edits, fabric, hammer, keys, ordering, stops, submits

    parts = (submits, stops, keys, edits, hammer, channels, fabric, ordering, chaos)
    return {drill.name: drill for part in parts for drill in part.DRILLS}


def run(drill: Drill, ledger: str, report: Report, options: Mapping[str, Any]) -> None:
    """Make what it breaks, break it, and leave nothing behind. What it could not bear is a broken promise."""
    from gateway.drills.rig import embedded

    if ledger == FABRIC:
        from gateway.drills.fabric_rig import fabric

        opened: Any = fabric(report.say, **drill.network)
    else:
        opened = embedded(**drill.network)
    with opened as rig:
        drill.run(rig, report, options)
