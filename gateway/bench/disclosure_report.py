"""A disclosure report of 200 pages: the accounting of somebody whose records were used thousands of times."""

import json
from datetime import UTC, date, datetime, timedelta
from importlib import import_module

import typst

from consent.models import Patient
from gateway.bench import NotInstalled, Row
from gateway.compliance import accounting
from gateway.compliance.accounting import Verdict
from gateway.compliance.uses import DELIVERED, RELEASED, Step, Use
from gateway.documents.report import Report

USES = 2_000  # 200 pages
FIRST = datetime(2020, 12, 1, 8, tzinfo=UTC)
# The same cells and no more: no tags, no headings, no widths.
BARE = b"""#set page(flipped: true)
#set text(size: 9pt)
#let rows = json(bytes(sys.inputs.rows))
#table(columns: 6, ..rows.flatten())
"""


class DisclosureReport(Row):
    name = "report"
    unit = "uses"
    goal = "≥ 0.7 of the limit, ≥ 15 × the peer"
    product_is = f"the accounting of {USES:,} uses as a tagged PDF/UA-1"
    peer_is = "WeasyPrint, the same report as a page"
    limit_is = "typst alone, the same cells, untagged"

    def setup(self) -> None:
        self._report = _report()

    def product(self) -> int:
        self._report.as_pdf("en")
        return USES

    def peer(self) -> int:
        try:
            weasyprint = import_module("weasyprint")
        except ImportError:
            raise NotInstalled("pip install weasyprint") from None
        weasyprint.HTML(string=self._report.as_html("en").decode()).write_pdf(pdf_variant="pdf/ua-1")
        return USES

    def limit(self) -> int:
        table = self._report.sections[-1].table
        assert table is not None
        inputs = {"rows": json.dumps([list(row) for row in table.rows])}
        typst.compile(BARE, format="pdf", ignore_system_fonts=True, sys_inputs=inputs)
        return USES


def _report() -> Report:
    rows = [_row(number) for number in range(USES)]
    patient = Patient(name="Alice Example")
    return accounting.report(patient, rows, since=date(2020, 11, 28), until=date(2026, 11, 28))


def _row(number: int) -> accounting.Row:
    at = FIRST + timedelta(hours=15 * number)
    steps = [Step(kind, at, number, "", {}, {}) for kind in (RELEASED, DELIVERED)]
    use = Use(f"{number:064x}", steps, None, None, None, None, False, "")
    return accounting.Row(
        use=use,
        recipient="Helix AI",
        address="research@helix.example",
        description="A result made from: Health problems, Medicines, Test results, Mental health",
        purpose="Use a computer program to look for early signs of heart disease.",
        outcome="Result sent",
        verdict=Verdict(False, "164.528(a)(1)(iv)", "The patient authorized it (164.508)"),
        part2=False,
    )


ROW = DisclosureReport()
