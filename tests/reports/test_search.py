"""The pictures of a search: what is shown and what would squash the rest."""

from __future__ import annotations

import pytest

from slimformer.reports.search import front, page, plot_front, span


def row(name, flops, rating):
    return {"name": name, "rating": rating, "costs": {"flops": flops}, "spec": {"units": {"a.heads": 2}, "blocks": {"a": [0]}}}


@pytest.fixture
def outcome():
    rows = [row(f"layers-{i}", 100.0 + i, -0.5 - 0.01 * i) for i in range(8)]
    rows += [row("width1", 150.0, -0.55), row("width0.5", 50.0, -0.9), row("layers-bad", 120.0, -7.0)]
    return {
        "name": "a <run>", "rating": "-loss", "limits": ["flops <= 150"], "minimise": "", "strategy": "auto", "winner": rows[0],
        "costs": {"flops": "FLOPs"}, "workload": {"batch_size": 1, "length": 8}, "candidates": rows,
    }  # fmt: skip


def test_a_rating_far_below_the_others_does_not_squash_them_but_is_there(outcome):
    assert span(outcome) == pytest.approx((-0.57, -0.5))
    drawn = page(outcome)
    assert drawn.count("<circle data-row") == 8
    assert drawn.count('<rect class="point"') == 1
    assert drawn.count("<path data-row") == 2
    assert "layers-bad" in drawn


def test_the_winner_is_in_the_picture_even_where_it_is_worst(outcome):
    outcome["winner"] = outcome["candidates"][-1]
    assert span(outcome) == (-7.0, -0.5)


def test_the_front_is_what_nothing_cheaper_equals(outcome):
    assert [r["name"] for r in front(outcome["candidates"], "flops")] == ["width0.5", "layers-0"]


def test_a_page_escapes_what_it_shows_and_one_candidate_is_enough(outcome, tmp_path):
    outcome["candidates"] = outcome["candidates"][:1]
    assert "a &lt;run&gt;" in page(outcome)
    plot_front(outcome, tmp_path / "front.png")
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")
