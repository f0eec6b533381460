"""Schedules: the stages they stand for, in recipes and in Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slimformer.distillation import SCHEDULES, DynaBERT, FinalFinetuning, OneStage
from slimformer.errors import RecipeError
from slimformer.recipe import Recipe, parse_recipe, read_recipe, to_table

RECIPES = Path(__file__).parents[2] / "recipes"
SPELLED_OUT = json.loads((Path(__file__).parent / "spelled_out.json").read_text())
"""Recipe -> its stages as `[[stage]]` tables."""

HEAD = """\
name = "r"
[model]
checkpoint = "bert-base-uncased"
[task]
name = "docstrings"
[space]
width = [1.0, 0.5]
depth = [1.0, 0.5]
"""


@pytest.fixture
def read(tmp_path):
    def read(text: str, sets=(), child: str = "") -> Recipe:
        (tmp_path / "r.toml").write_text(HEAD + text)
        (tmp_path / "child.toml").write_text('extends = "r.toml"\n' + child)
        return read_recipe(tmp_path / ("child.toml" if child else "r.toml"), sets)

    return read


@pytest.mark.parametrize("name", sorted(SPELLED_OUT))
def test_a_recipe_of_this_repository_has_the_stages_that_it_had_when_they_were_spelled_out(name) -> None:
    recipe = read_recipe(RECIPES / name)
    assert parse_recipe(to_table(recipe) | {"stage": SPELLED_OUT[name]}) == recipe


def test_every_recipe_of_this_repository_is_among_those_spelled_out() -> None:
    assert {path.relative_to(RECIPES).as_posix() for path in RECIPES.glob("**/*.toml")} == set(SPELLED_OUT)


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_a_schedule_is_a_function_of_its_options_and_names_its_stages_apart(name) -> None:
    stages = SCHEDULES.build(name)()
    assert stages == SCHEDULES.build(name)()
    assert len({stage["name"] for stage in stages}) == len(stages) > 0


def test_a_weight_given_as_a_list_has_one_for_each_stage() -> None:
    width, depth = DynaBERT(terms=({"name": "hidden_mse", "weight": [0.2, 0.8]}, "labels"))()
    assert width["terms"] == ({"name": "hidden_mse", "weight": 0.2}, "labels")
    assert depth["terms"] == ({"name": "hidden_mse", "weight": 0.8}, "labels")


def test_other_axes_may_take_the_place_of_width_and_depth() -> None:
    width, depth = DynaBERT(width=("width.ffn", "hidden"), depth=("depth.text",))()
    assert (width["axes"], depth["axes"]) == (("width.ffn", "hidden"), ("width.ffn", "hidden", "depth.text"))


def test_a_bare_name_is_a_schedule_with_its_defaults(read) -> None:
    recipe = read('[schedule]\nname = "one_stage"\n')
    (both,) = recipe.stage
    assert (both.name, both.axes, both.teacher) == ("both", ("width", "depth"), "base")
    assert [type(term).__name__ for term in both.terms] == ["SoftCrossEntropy", "HiddenMSE", "EmbeddingMSE"]


def test_a_list_of_schedules_is_one_after_the_other(read) -> None:
    table = to_table(read('[schedule]\nname = "dynabert"\n'))
    del table["stage"]
    joined = parse_recipe(table | {"schedule": ["dynabert", {"name": "final_finetuning", "training": {"epochs": 2}}]})
    assert [stage.name for stage in joined.stage] == ["width", "depth", "final"]
    assert joined.stage[2].training.epochs == 2


def test_stages_that_the_recipe_writes_itself_follow_those_of_the_schedule(read) -> None:
    for text in ('[[stage]]\nname = "final"\n', "[stage.final]\n"):
        recipe = read('[schedule]\nname = "dynabert"\n' + text + 'axes = ["width"]\nterms = ["labels"]\n')
        assert [stage.name for stage in recipe.stage] == ["width", "depth", "final"]


def test_a_stage_of_a_schedule_is_changed_by_its_name_in_the_same_file_in_a_child_and_on_the_command_line(read) -> None:
    schedule = '[schedule]\nname = "dynabert"\ntraining = { epochs = 1 }\n'
    change = "[stage.depth.training]\nepochs = 7\n"
    recipes = [
        read(schedule + change),
        read(schedule, child=change),
        read(schedule, sets=["stage.depth.training.epochs=7"]),
        read(schedule, sets=["stage.1.training.epochs=7"]),
    ]
    for recipe in recipes:
        assert [stage.training.epochs for stage in recipe.stage] == [1, 7]


def test_an_override_of_the_schedule_comes_before_one_of_a_stage(read) -> None:
    sets = ["stage.depth.training.epochs=7", "schedule.training.epochs=2", "schedule.sampler=largest"]
    recipe = read('[schedule]\nname = "dynabert"\n', sets=sets)
    assert [stage.training.epochs for stage in recipe.stage] == [2, 7]
    assert {type(stage.sampler).__name__ for stage in recipe.stage} == {"Largest"}


def test_a_child_changes_options_of_the_schedule_or_takes_another(read) -> None:
    schedule = '[schedule]\nname = "dynabert"\ntraining = { epochs = 1, learning_rate = 1e-4 }\n[stage.depth]\nfollow = []\n'
    changed = read(schedule, child="[schedule.training]\nepochs = 5\n").stage
    assert [(stage.training.epochs, stage.training.learning_rate, stage.follow) for stage in changed] == [(5, 1e-4, ())] * 2
    other = read(schedule, child='[schedule]\nname = "one_stage"\n').stage
    assert [stage.name for stage in other] == ["both"]


def test_stages_of_a_child_take_the_place_of_a_schedule(read) -> None:
    child = '[[stage]]\nname = "only"\naxes = ["width"]\nterms = ["labels"]\n'
    assert [stage.name for stage in read('[schedule]\nname = "dynabert"\n', child=child).stage] == ["only"]


def test_a_plugin_file_of_the_recipe_may_define_its_schedule(read, tmp_path) -> None:
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom slimformer.distillation import SCHEDULES\n"
        '@SCHEDULES.register(\'of_a_file\')\n@dataclass(frozen=True)\nclass OfAFile:\n    """One stage."""\n'
        "    def __call__(self):\n        return [{'name': 'mine', 'axes': ['width'], 'terms': ['labels']}]\n"
    )
    try:
        for sets in ([f'plugins=["{tmp_path / "mine.py"}"]'], [f'plugins=["{tmp_path / "mine.py"}"]', "schedule=of_a_file"]):
            text = '[schedule]\nname = "of_a_file"\n' if len(sets) == 1 else ""
            assert [stage.name for stage in read(text, sets=sets).stage] == ["mine"]
    finally:
        SCHEDULES.forget("of_a_file")


def test_the_resolved_recipe_spells_the_stages_out(read) -> None:
    table = to_table(read('[schedule]\nname = "dynabert"\n'))
    assert "schedule" not in table
    assert [stage["name"] for stage in table["stage"]] == ["width", "depth"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[schedule]\nname = "dynabort"\n', "r.toml:9: schedule: no schedule is called 'dynabort'. Did you mean 'dynabert'?"),
        ('[schedule]\nname = "dynabert"\nsampelr = "every"\n', "r.toml:11: schedule.sampelr: unknown key (did you mean 'sampler'?)"),
        ('[schedule]\nname = "dynabert"\ntraining = { epoch = 1 }\n', "r.toml:11: stage.0.training.epoch: unknown key"),
        ('[schedule]\nname = "dynabert"\nterms = ["labls"]\n', "r.toml:11: stage.0.terms.0: no loss term is called 'labls'"),
        ('[schedule]\nname = "one_stage"\nstage = "No Name"\n', "r.toml:11: schedule.stage: "),
        ('[[schedule]]\nname = "dynabert"\n[[schedule]]\nname = "dynabert"\n', "r.toml:11: stage.2.name: 'width' is already the name"),
        ("[schedule]\n", "r.toml:9: schedule: write name = one of: dynabert, final_finetuning, one_stage"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_schedule_is_named_with_its_line(read, tmp_path, text, said) -> None:
    with pytest.raises(RecipeError) as caught:
        read(text)
    assert said in str(caught.value).replace(f"{tmp_path}/", "")


def test_a_list_of_schedules_in_python_is_built_of_the_same_components() -> None:
    assert [stage["name"] for schedule in (OneStage(), FinalFinetuning()) for stage in schedule()] == ["both", "final"]
