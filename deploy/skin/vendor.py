"""Brings the page skin into the repository: govuk-frontend's stylesheet, without its brand.

GOV.UK Frontend is MIT-licensed; its font, crest and name are not ours to use. What is left must
name no font file, no image and no host, so that pages load nothing but themselves.

    python deploy/skin/vendor.py            fetch (needs npm), strip, write, record the digest
    python deploy/skin/vendor.py --check    the committed file is the recorded one, and is clean
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "govuk-frontend"
VERSION = "6.6.0"
# The tarball as npm published it.
TARBALL_SHA256 = "52c4eb554e54d8a6e4ba801e9da5ec3a5b930fd2f117a39677f0b6296e954751"
STYLESHEET = "package/dist/govuk/govuk-frontend.min.css"

TARGET = Path(__file__).resolve().parents[2] / "templates" / "static" / "skin"
FORBIDDEN = ("url(", "gds transport", "govuk-crest", "sourcemappingurl")

FONT_FACE = re.compile(r"(?:/\*![^*]*Margaret Calvert[^*]*\*/)?@font-face\{[^}]*\}")
FONT_FAMILY = re.compile(r"font-family:GDS Transport(?:,arial,sans-serif)?")
IMAGE = re.compile(r"(?:background-image|-webkit-mask-image|mask-image):url\([^)]*\);?")
SOURCE_MAP = re.compile(r"/\*#[^*]*\*/\s*$")


class SkinError(Exception):
    """The stylesheet is not what we expect; nothing was written."""


def strip(css: str) -> str:
    """`css` without brand: the font family becomes the variable `--gw-font`. Raises SkinError."""
    css = FONT_FACE.sub("", css)
    css = FONT_FAMILY.sub("font-family:var(--gw-font,sans-serif)", css)
    css = IMAGE.sub("", css)
    css = SOURCE_MAP.sub("", css).strip() + "\n"
    check_clean(css)
    return css


def check_clean(css: str) -> None:
    for text in FORBIDDEN:
        if text in css.lower():
            raise SkinError(f"The stylesheet still holds {text!r}.")


def fetch(folder: Path) -> str:
    """The published stylesheet, out of a tarball whose digest is pinned here. Raises SkinError."""
    subprocess.run(
        ["npm", "pack", f"{PACKAGE}@{VERSION}", "--silent"],  # noqa: S607
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    tarball = folder / f"{PACKAGE}-{VERSION}.tgz"
    if hashlib.sha256(tarball.read_bytes()).hexdigest() != TARBALL_SHA256:
        raise SkinError("The package that npm delivered is not the pinned one.")
    with tarfile.open(tarball) as archive:
        member = archive.extractfile(STYLESHEET)
        if member is None:
            raise SkinError("The package has no stylesheet where we expect it.")
        return member.read().decode()


def write(css: str) -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    path = TARGET / f"{PACKAGE}.css"
    path.write_text(css)
    record = {
        "package": PACKAGE,
        "version": VERSION,
        "licence": "MIT, see LICENSE-govuk-frontend.txt",
        "tarball_sha256": TARBALL_SHA256,
        "sha256": {path.name: hashlib.sha256(css.encode()).hexdigest()},
    }
    (TARGET / "vendored.json").write_text(json.dumps(record, indent=2) + "\n")


def check() -> None:
    """The committed stylesheet is clean and is the one that was recorded. Raises SkinError."""
    record = json.loads((TARGET / "vendored.json").read_text())
    for name, digest in record["sha256"].items():
        content = (TARGET / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise SkinError(f"{name} was changed since it was vendored; run deploy/skin/vendor.py again.")
        check_clean(content.decode())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only compare with what was recorded")
    options = parser.parse_args()
    try:
        if options.check:
            check()
        else:
            with tempfile.TemporaryDirectory() as folder:
                write(strip(fetch(Path(folder))))
    except SkinError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
