"""The package tree: a package of it is built, tested, and comes out the same where everything else is another."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from boxwright.app.sbom import licence_expression
from tests.conftest import ROOT, Program
from tests.reproducible.__main__ import changed, tree_packages
from tests.reproducible.builds import Circumstances, build
from tests.reproducible.compare import dated, members

EXPECTED = {"name", "version", "summary", "license", "homepage", "test"}


@pytest.mark.slow
@pytest.mark.long
def test_packages_are_built_twice_to_the_same_bytes(boxwright: Program, tmp_path: Path) -> None:
    here = Circumstances(ROOT, boxwright.home)
    elsewhere = changed(tmp_path, as_user=False)._replace(store=boxwright.home, no_cache=True)
    first = build("libs/zlib", here, tmp_path / "first", test=True)
    before = members(first.archive)
    second = build("libs/zlib", elsewhere, tmp_path / "second", test=False)

    assert "zlib test OK" in (tmp_path / "second").read_text()  # it was built again, its check phase too
    assert members(second.archive) == before
    assert second.package == first.package
    assert dated(second.archive, ((tmp_path / "second").stat().st_mtime,)) == []
    assert {"libz.so.1"} == set(first.package.record["provides"])
    assert {item["part"] for item in first.package.record["files"] if "part" in item} == {"dev", "dbg", "tests"}

    one = build("libs/bzip2", here._replace(umask=0o077), tmp_path / "one", test=True)
    other = build(
        "libs/bzip2", here._replace(checkout=elsewhere.checkout, no_cache=True), tmp_path / "other", test=True
    )
    assert other.package == one.package
    assert {item["mode"] for item in one.package.record["files"] if item["kind"] == "file"} == {"0644", "0755"}


@pytest.mark.parametrize("package", tree_packages())
def test_every_definition_is_complete_and_plans(boxwright: Program, package: str) -> None:
    definition = yaml.safe_load((ROOT / "packages" / package / "pkg.yaml").read_text("utf-8"))
    assert definition.keys() >= EXPECTED
    assert licence_expression(definition["license"]) is not None
    for flag in definition.get("use", {}).get("flags", {}).values():
        assert flag["summary"]
        assert flag.keys() & {"with", "without"}
    boxwright("build", "--dry-run", ROOT / "packages" / package)
