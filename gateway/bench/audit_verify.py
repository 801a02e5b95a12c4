"""Verifying an export offline."""

from hashlib import sha256

from gateway.bench import NotInstalled, Row
from gateway.bench.audit_log import ROWS, SealedLog
from ledger import verify


class AuditVerify(Row):
    name = "verify"
    unit = "rows"
    goal = "≥ 0.5 of hashing speed in its language"
    product_is = f"ledger/verify.py on {ROWS:,} rows: every check"
    peer_is = "none"
    limit_is = "reading the lines and hashing leaves and tree in Python, without any check"
    needs_database = True

    def setup(self) -> None:
        self._log = SealedLog()
        self._export = self._log.export("out")

    def teardown(self) -> None:
        self._log.close()

    def product(self) -> int:
        report = verify.verify(self._export, self._log.key)
        if report.exit != 0:
            raise RuntimeError(f"The export did not verify: {report.verdict}.")
        return ROWS

    def peer(self) -> int:
        raise NotInstalled("none: no other program reads this")

    def limit(self) -> int:
        with (self._export / verify.ROWS).open("rb") as file:
            row = [sha256(b"\x00" + line[:-1]).digest() for line in file]
        while len(row) > 1:
            pairs = iter(row)
            row = [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=False)]
        return ROWS


ROW = AuditVerify()
