"""The table of families in the documentation is the one that its command writes when every law holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimformer import testing
from slimformer.backbones import BACKBONES, backbone_for
from tests import backbone_table
from tests.families import FAMILIES

PAGE = Path(__file__).parents[1] / "docs" / "backbones.md"


def test_the_committed_table_is_current() -> None:
    described = PAGE.read_text(encoding="utf-8").partition("\n## Proposed")[0]
    assert described == backbone_table.page(lambda name, check: "yes")


def test_a_broken_law_is_named_in_its_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(case: testing.Case) -> None:
        raise AssertionError("law 3 (slicing is extracting is masking) is broken for everything")

    monkeypatch.setattr(testing, "LAWS", (broken,))
    assert backbone_table.found("ViT", "eager") == "law 3 (slicing is extracting is masking)"


def test_every_backbone_of_the_plugins_has_a_family_in_the_table() -> None:
    registered = {cls for _, cls in BACKBONES if cls.__module__.startswith("slimformer_") and "_file_" not in cls.__module__}
    assert registered == {type(backbone_for(family.build("eager"))) for family in FAMILIES.values()}
