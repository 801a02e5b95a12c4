"""The job child: the only process that sees a job's records, one patient at a time, and what it may not do.

    python -m gateway.analysis.child WORKER_PID

It puts its walls up, and only then imports what does its work: part.py, where the frames are told of.
"""

import sys

from gateway.analysis import sandbox


def main() -> int:
    worker = int(sys.argv[1])
    unenforced = sandbox.confine(parent=worker or None)
    from gateway.analysis.part import Part

    return Part(unenforced).serve()


if __name__ == "__main__":
    sys.exit(main())
