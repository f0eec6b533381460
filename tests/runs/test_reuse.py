"""What a run may begin with: a step is shared only where both recipes say the same of all that decides it."""

from pathlib import Path

import pytest

from slimformer.errors import RunError
from slimformer.files import append_line, write_text
from slimformer.recipe import read_recipe
from slimformer.runs.folder import RunFolder
from slimformer.runs.recipe_file import begin, recipe_of
from slimformer.runs.reuse import shared_steps, take_over

GLUE = Path(__file__).parents[2] / "recipes" / "dynabert_glue.toml"
ALL = ("base", "rewiring", "width", "depth")


def finished(path, steps=ALL):
    """A run folder of the recipe in which some steps are complete, each model being a file that names it."""
    folder = RunFolder(path)
    begin(folder, read_recipe(GLUE))
    for step in steps:
        if step == "rewiring":
            write_text(folder.rewiring, "rewiring")
            write_text(folder.scores, "scores")
        else:
            write_text(folder.model(step) / "model.txt", step)
        append_line(folder.metrics, {"stage": "finetune" if step == "base" else step, "step": 1})
        append_line(folder.ratings, {"snapshot": "rewired" if step == "rewiring" else step, "split": "validation"})
    folder.mark(*steps)
    return folder


@pytest.mark.parametrize(
    ("override", "steps"),
    [
        ("name=variant", 4),
        ("machine.save_steps=7", 4),
        ('evaluation.costs=["params"]', 4),
        ('search.blocks="prefix"', 4),
        ("seed=1", 0),
        ("model.checkpoint=other", 0),
        ("task.max_train=100", 0),
        ("finetune.epochs=1", 0),
        ("machine.batch_size=8", 0),
        ("machine.precision=fp32", 0),
        ("importance.scorer.reduction=cumulative", 1),
        ("importance.batch_size=8", 1),
        ("rewiring=keep", 1),
        ("space.width=[1.0, 0.5]", 2),
        ("space.depth_policy=reference", 2),
        ("stage.width.training.epochs=1", 2),
        ("stage.width.terms.1.weight=1.0", 2),
        ("space.depth=[1.0, 0.5]", 3),
        ("stage.depth.follow=[]", 3),
        ("stage.depth.training.learning_rate=1e-4", 3),
    ],
)
def test_a_step_is_shared_only_if_nothing_that_decides_it_or_an_earlier_one_differs(tmp_path, override, steps):
    shared, other = shared_steps(read_recipe(GLUE, [override]), finished(tmp_path))
    assert shared == ALL[:steps]
    assert (other == []) == (steps == len(ALL))
    assert all(line.startswith(override.partition("=")[0]) for line in other)


def test_a_recipe_that_ends_earlier_shares_all_that_it_has(tmp_path):
    recipe = read_recipe(GLUE, ["stage=[]", 'evaluation.snapshots=["rewired"]'])
    assert shared_steps(recipe, finished(tmp_path)) == (ALL[:2], [])


def test_steps_are_shared_in_order_and_only_if_they_are_finished(tmp_path):
    shared, other = shared_steps(read_recipe(GLUE), finished(tmp_path, ("base", "width")))
    assert shared == ("base",)
    assert other == ["'rewiring' is not finished there"]


def test_taking_over_copies_the_shared_steps_their_numbers_and_nothing_else(tmp_path):
    source, folder = finished(tmp_path / "source"), RunFolder(tmp_path / "new")
    recipe = read_recipe(GLUE, ["stage.depth.follow=[]"])
    begin(folder, recipe)
    write_text(folder.checkpoints("finetune") / "half.txt", "")
    said = take_over(recipe, folder, source)
    assert "base, rewiring, width; made anew: what comes after, as stage.depth.follow: ['width'] -> []" in said
    assert folder.done() == set(ALL[:3])
    assert (folder.model("width") / "model.txt").read_text() == "width"
    assert not folder.model("depth").exists()
    assert not folder.checkpoints("finetune").exists()
    assert '"depth"' not in folder.metrics.read_text() + folder.ratings.read_text()
    assert len(folder.metrics.read_text().splitlines()) == len(folder.ratings.read_text().splitlines()) == 3
    assert recipe_of(folder) == recipe


def test_a_long_difference_is_named_by_its_key_alone(tmp_path):
    recipe = read_recipe(GLUE, ['stage.depth.terms=["labels"]'])
    folder = RunFolder(tmp_path / "new")
    begin(folder, recipe)
    assert take_over(recipe, folder, finished(tmp_path / "source")).endswith("as stage.depth.terms differs")


def test_a_run_with_a_finished_step_of_its_own_goes_on_with_it(tmp_path):
    source, folder = finished(tmp_path / "source"), finished(tmp_path / "new", ("base",))
    assert take_over(read_recipe(GLUE), folder, source) == ""
    assert folder.done() == {"base"}


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("source", "--from .*source shares no step with this recipe .seed: 42 -> 1.: run it without"),
        ("new", "run folder itself"),
    ],
)
def test_nothing_to_take_over_is_an_error(tmp_path, start, said):
    finished(tmp_path / "source")
    folder, recipe = RunFolder(tmp_path / "new"), read_recipe(GLUE, ["seed=1"])
    begin(folder, recipe)
    with pytest.raises(RunError, match=said):
        take_over(recipe, folder, RunFolder(tmp_path / start))
    assert folder.is_untouched()
