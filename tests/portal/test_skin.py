"""The vendored skin is the recorded one and carries no brand, no font file and no host."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

VENDOR = Path(__file__).resolve().parents[2] / "deploy" / "skin" / "vendor.py"


@pytest.fixture
def vendor() -> ModuleType:
    spec = importlib.util.spec_from_file_location("vendor", VENDOR)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_sheet_is_the_recorded_one_and_clean(vendor: ModuleType) -> None:
    vendor.check()
    assert (vendor.TARGET / "LICENSE-govuk-frontend.txt").read_text().startswith("The MIT License")


def test_a_changed_sheet_is_found(vendor: ModuleType, tmp_path: Path) -> None:
    for file in vendor.TARGET.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "govuk-frontend.css").write_text("a{}")
    vendor.TARGET = tmp_path
    with pytest.raises(vendor.SkinError):
        vendor.check()


@pytest.mark.parametrize("css", ["a{background:url(x)}", "a{font:GDS Transport}", ".govuk-crest{}"])
def test_a_brand_that_is_left_over_stops_it(vendor: ModuleType, css: str) -> None:
    with pytest.raises(vendor.SkinError):
        vendor.strip(css)


def test_stripping_keeps_what_is_not_brand(vendor: ModuleType) -> None:
    css = (
        "@font-face{font-family:GDS Transport;src:url(/a.woff2)}"
        ".a{font-family:GDS Transport,arial,sans-serif;color:red}"
        ".b{background-image:url(/crest.svg);width:1px}"
    )
    assert vendor.strip(css) == ".a{font-family:var(--gw-font,sans-serif);color:red}.b{width:1px}\n"
