"""Where Fabric's binaries are, or a sentence that says how to get them."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

NEEDED = ("peer", "orderer", "configtxgen", "configtxlator", "osnadmin")
HOW_TO_GET = """\
Hyperledger Fabric's binaries were not found ({missing}).
Get them with Fabric's own install script:
    curl -sSLO https://raw.githubusercontent.com/hyperledger/fabric/main/scripts/install-fabric.sh
    bash install-fabric.sh --fabric-version 2.5.16 binary        (or 3.1.5)
or unpack a release from https://github.com/hyperledger/fabric/releases, then set
    FABRIC_BIN_DIR=<folder with peer, orderer, configtxgen, ...>
Its configuration (core.yaml, orderer.yaml) is looked for in FABRIC_CFG_PATH, then in ../config beside it."""


class BinariesMissing(Exception):
    """Fabric is not installed here. The text tells how to get it."""


@dataclass(frozen=True)
class Binaries:
    """The folder of the binaries and the folder of the stock core.yaml and orderer.yaml."""

    folder: Path
    config: Path

    @classmethod
    def find(cls) -> "Binaries":
        """`FABRIC_BIN_DIR`, then `PATH`. Raises BinariesMissing."""
        folder = _folder()
        beside = [folder.parent / "config"]
        if stated := os.environ.get("FABRIC_CFG_PATH"):
            # The binaries that were asked for by name bring their own configuration.
            beside = [*beside, Path(stated)] if "FABRIC_BIN_DIR" in os.environ else [Path(stated), *beside]
        for config in beside:
            if (config / "core.yaml").is_file() and (config / "orderer.yaml").is_file():
                return cls(folder, config)
        raise BinariesMissing(HOW_TO_GET.format(missing="core.yaml and orderer.yaml"))

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def version(self) -> tuple[int, int]:
        """(major, minor) of the peer."""
        text = subprocess.run(
            [self.path("peer"), "version"], capture_output=True, text=True, check=True
        ).stdout
        match = re.search(r"Version: v?(\d+)\.(\d+)", text)
        if match is None:
            raise BinariesMissing("The peer does not say which version it is.")
        return int(match[1]), int(match[2])


def _folder() -> Path:
    if stated := os.environ.get("FABRIC_BIN_DIR"):
        missing = [name for name in NEEDED if not os.access(Path(stated) / name, os.X_OK)]
        if missing:
            raise BinariesMissing(HOW_TO_GET.format(missing=f"FABRIC_BIN_DIR has no {', '.join(missing)}"))
        return Path(stated).resolve()
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        raise BinariesMissing(HOW_TO_GET.format(missing=", ".join(missing)))
    found = shutil.which("peer")
    assert found is not None
    beside = Path(found)
    # A link on PATH leads to where the release was unpacked.
    return beside.parent if (beside.parent.parent / "config").is_dir() else beside.resolve().parent
