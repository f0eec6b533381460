"""Ratings: evaluated once, kept as lines of a file, and never kept where a number is not finite."""

import json

import pytest

from slimformer.errors import RunError
from slimformer.runs import ratings as module
from slimformer.runs.folder import RunFolder
from slimformer.runs.ratings import RatingKey, Ratings
from slimformer.supernet import SubnetSpec
from slimformer.training.processes import Processes

SPEC = SubnetSpec({"a": 2, "b": 1}, {"encoder": (0, 2)})
OTHER = SubnetSpec({"a": 1, "b": 1}, {"encoder": (0, 2)})
KEY = RatingKey("base", "validation", SPEC)
LINE = {"snapshot": "base", "split": "validation", "spec": SPEC.to_json(), "metrics": {"accuracy": 50.0}}


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path)


def never():
    raise AssertionError("evaluated again")


def test_a_rating_is_found_by_snapshot_split_and_spec(folder):
    Ratings(folder).add(KEY, {"accuracy": 50.0})
    again = Ratings(folder)
    assert again.find(KEY) == {"accuracy": 50.0}
    others = [RatingKey("width", "validation", SPEC), RatingKey("base", "test", SPEC), RatingKey("base", "validation", OTHER)]
    assert [again.find(key) for key in others] == [None, None, None]
    assert again.missing([KEY, *others]) == others


def test_a_rating_is_evaluated_once_and_written_as_one_line(folder):
    ratings = Ratings(folder)
    assert ratings.get(KEY, lambda: {"accuracy": 50.0}) == {"accuracy": 50.0}
    assert ratings.get(KEY, never) == {"accuracy": 50.0}
    assert Ratings(folder).get(KEY, never) == {"accuracy": 50.0}
    assert folder.ratings.read_text() == json.dumps(LINE) + "\n"


def test_the_file_is_read_once(folder, monkeypatch):
    reads, read_lines = [], module.read_lines
    monkeypatch.setattr(module, "read_lines", lambda path: reads.append(path) or read_lines(path))
    ratings = Ratings(folder)
    for spec in (SPEC, OTHER, SPEC):
        ratings.get(RatingKey("base", "validation", spec), lambda: {"accuracy": 1.0})
    assert reads == [folder.ratings]


def test_a_grid_is_written_in_its_order_and_told_key_by_key(folder):
    told = []
    keys = [RatingKey("base", split, spec) for spec in (OTHER, SPEC) for split in ("one", "two")]
    ratings = Ratings(folder)
    ratings.fill(keys, lambda key: {"units": key.spec.units["a"]}, Processes(), lambda key, found: told.append((key, found)))
    assert told == [(key, {"units": key.spec.units["a"]}) for key in keys]
    assert Ratings(folder).missing(keys) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_metric_that_is_not_finite_stops_the_run_and_is_not_kept(folder, value):
    ratings = Ratings(folder)
    with pytest.raises(RunError, match=r"loss .* of 'base' on validation is -?(nan|inf).*lower learning_rate"):
        ratings.get(KEY, lambda: {"accuracy": 1.0, "loss": value})
    assert ratings.find(KEY) is None
    assert not folder.ratings.exists()


def test_a_line_of_an_old_run_with_a_metric_that_is_no_number_is_evaluated_again(folder):
    folder.ratings.write_text(json.dumps(LINE | {"metrics": {"accuracy": float("nan")}}) + "\n")
    assert Ratings(folder).get(KEY, lambda: {"accuracy": 2.0}) == {"accuracy": 2.0}
    assert Ratings(folder).find(KEY) == {"accuracy": 2.0}


@pytest.mark.parametrize(
    "row",
    [
        [1],
        7,
        None,
        {},
        LINE | {"metrics": [50.0]},
        LINE | {"metrics": {"accuracy": "50"}},
        LINE | {"spec": []},
        LINE | {"spec": {"units": {"a": None}, "blocks": {}}},
        LINE | {"spec": {"units": {"a": 1e400}, "blocks": {}}},
        LINE | {"snapshot": {"a": 1}},
    ],
)
def test_a_line_of_the_wrong_shape_is_named_with_its_number(folder, row):
    folder.ratings.write_text(json.dumps(LINE) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(RunError, match=r"ratings\.jsonl:2 is damaged \(.*\): remove that line and try again") as caught:
        Ratings(folder)
    assert "\n" not in str(caught.value)
