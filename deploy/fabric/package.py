"""A chaincode package: where an organisation's own chaincode process listens, and the keys to call it.

One package for each organisation, installed on its own peer only, for it holds that peer's TLS key. Built
the same to the byte each time, so that its id is stable.
"""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path


def write_package(path: Path, *, label: str, address: str, roots: str, certificate: str, key: str) -> None:
    """Write the package. The strings are PEM: whom the peer trusts, and who it is to the chaincode."""
    connection = {
        "address": address,
        "client_auth_required": True,
        "client_cert": certificate,
        "client_key": key,
        "dial_timeout": "10s",
        "root_cert": roots,
        "tls_required": True,
    }
    code = _tar_gz({"connection.json": json.dumps(connection, sort_keys=True).encode()})
    metadata = json.dumps({"label": label, "type": "ccaas"}, sort_keys=True).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(_tar_gz({"metadata.json": metadata, "code.tar.gz": code}))


def package_id(path: Path) -> str:
    """`label:hash` as the peer's lifecycle computes it: SHA-256 of the package's bytes."""
    data = path.read_bytes()
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        member = archive.extractfile("metadata.json")
        assert member is not None
        label = json.load(member)["label"]
    return f"{label}:{hashlib.sha256(data).hexdigest()}"


def _tar_gz(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = 0o600
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(packed.getvalue(), mtime=0)
