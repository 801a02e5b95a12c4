"""An installation's processes start together or not at all."""

import socket
from pathlib import Path

import pytest

from gateway import installation
from gateway.processes import ProcessError


def test_a_taken_port_is_said_before_anything_starts(tmp_path: Path) -> None:
    """Whoever listens there would be taken for our own web process."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ProcessError, match=f"Port {port} is taken"):
            installation.start(tmp_path, port=port)
    assert not (tmp_path / "logs").exists()
