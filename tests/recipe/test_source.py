"""Recipes that extend others: what wins, and that mistakes are found in the file and line that made them."""

from pathlib import Path

import pytest

from slimformer.errors import RecipeError
from slimformer.importance import FirstOrder
from slimformer.recipe import read_recipe
from slimformer.rewiring import Shuffle

RECIPES = Path(__file__).parents[2] / "recipes"
BASE = """\
name = "base"

[model]
checkpoint = "bert-base-uncased"

[task]
name = "glue"
subset = "mrpc"
max_length = 64

[space]
width = [1.0, 0.5]
depth = [1.0, 0.5]

[importance]
scorer = "first_order"

[[stage]]
name = "width"
axes = ["width"]
terms = ["soft_cross_entropy", "hidden_mse"]
training = { epochs = 1, learning_rate = 1e-4 }

[[stage]]
name = "depth"
axes = ["width", "depth"]
teacher = "width"
terms = ["soft_cross_entropy"]
"""


@pytest.fixture
def read(tmp_path):
    """Reads a recipe in a folder below that of the base recipe, which it extends."""

    def read(text: str, sets=(), base: str = BASE):
        (tmp_path / "base.toml").write_text(base)
        (tmp_path / "inner").mkdir(exist_ok=True)
        (tmp_path / "inner" / "child.toml").write_text('extends = "../base.toml"\n' + text)
        return read_recipe(tmp_path / "inner" / "child.toml", sets)

    return read


@pytest.fixture
def mistake(read, tmp_path):
    def mistake(text: str, sets=(), base: str = BASE) -> str:
        with pytest.raises(RecipeError) as caught:
            read(text, sets, base)
        return str(caught.value).replace(f"{tmp_path}/", "").replace("inner/../", "")

    return mistake


def test_what_the_file_does_not_say_is_that_of_the_other(read):
    recipe = read('name = "child"\n[task]\nmax_length = 32\n')
    assert (recipe.name, recipe.task.max_length, recipe.task.subset) == ("child", 32, "mrpc")
    assert [stage.name for stage in recipe.stage] == ["width", "depth"]


def test_a_stage_is_changed_by_its_name(read):
    width, depth = read('[stage.width]\nterms = ["labels"]\n[stage.width.training]\nepochs = 7\n').stage
    assert [type(term).__name__ for term in width.terms] == ["Labels"]
    assert (width.training.epochs, width.training.learning_rate) == (7, 1e-4)
    assert depth.teacher == "width"


def test_a_stage_of_a_new_name_comes_last(read):
    recipe = read('[stage.final]\naxes = ["width"]\nterms = ["labels"]\n')
    assert [stage.name for stage in recipe.stage] == ["width", "depth", "final"]


def test_a_list_of_stages_takes_the_place_of_the_others(read):
    recipe = read('[[stage]]\nname = "only"\naxes = ["width", "depth"]\nterms = ["labels"]\n')
    assert [stage.name for stage in recipe.stage] == ["only"]


def test_a_component_of_another_name_takes_the_others_place(read):
    assert read('rewiring = { name = "shuffle", seed = 3 }\n').rewiring == Shuffle(3)
    assert read("[importance.scorer]\nreduction = 'sum_of_abs'\n").importance.scorer == FirstOrder("sum_of_abs")
    other = read('[task]\nname = "docstrings"\nmax_train = 100\n').task
    assert not hasattr(other, "subset")


def test_overrides_win_over_both_files(read):
    assert read("[task]\nmax_length = 32\n", sets=["task.max_length=16", "stage.width.training.epochs=9"]).task.max_length == 16


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[task]\nmax_lenght = 32\n", "inner/child.toml:3: task.max_lenght: unknown key (did you mean 'max_length'?)"),
        ("[stage.depth]\nteacher = 'wdth'\n", "inner/child.toml:3: stage.1.teacher: 'wdth' is no earlier stage"),
        ("[stage.final]\naxes = ['hight']\nterms = ['labels']\n", "inner/child.toml:3: stage.2.axes: 'hight' is not an axis"),
        ("stage = 3\n", "inner/child.toml:2: stage: input should be a list"),
        ("[stage]\nwidth = 3\n", "inner/child.toml:3: stage.0: input should be a "),
        (
            '[[stage]]\nname = "only"\naxes = ["width"]\nterms = ["lables"]\n',
            "inner/child.toml:5: stage.0.terms.0: no loss term",
        ),
    ],
)
def test_a_mistake_is_named_with_the_file_and_line_that_made_it(mistake, text, said):
    assert said in mistake(text)


def test_a_mistake_of_the_other_file_is_named_there(mistake):
    found = mistake("[task]\nmax_length = 32\n", base=BASE.replace('subset = "mrpc"', 'subst = "mrpc"'))
    assert "base.toml:8: task.subst: unknown key (did you mean 'subset'?)" in found
    found = mistake('[task]\nname = "glue"\n', base=BASE.replace("learning_rate = 1e-4", "learning_rate = -1"))
    assert found.startswith("base.toml:22: stage.0.training.learning_rate: ")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('extends = "none.toml"', "r.toml:2: extends: there is no recipe none.toml; write its path"),
        ("extends = 3", "r.toml:2: extends: write the path of one recipe"),
        ('extends = "r.toml"', "r.toml:2: extends: r.toml extends this recipe itself"),
    ],
)
def test_a_recipe_that_cannot_be_extended_is_named_with_its_line(tmp_path, line, said):
    (tmp_path / "r.toml").write_text(f'name = "x"\n{line}\n')
    with pytest.raises(RecipeError) as caught:
        read_recipe(tmp_path / "r.toml")
    assert said in str(caught.value).replace(f"{tmp_path}/", "")


def test_plugin_files_are_sought_from_the_file_that_names_them(read, tmp_path):
    (tmp_path / "mine.py").write_text("")
    assert read("", base='plugins = ["mine.py"]\n' + BASE).plugins == (str(tmp_path / "mine.py"),)


@pytest.mark.parametrize("path", sorted((RECIPES / "ablations").glob("*.toml")), ids=lambda path: path.stem)
def test_an_ablation_differs_from_the_clean_flavour_in_what_its_name_says(path):
    from slimformer.recipe import differences, to_table

    changed = differences(to_table(read_recipe(RECIPES / "dynabert_glue.toml")), to_table(read_recipe(path)))
    keys = {line.split(":")[0].split(".")[0] for line in changed} - {"name", "evaluation"}
    assert keys == {
        {"no_rewiring": "rewiring", "shuffled_rewiring": "rewiring", "abs_of_sum": "importance"}.get(path.stem, "stage")
    }


def test_roberta_warms_up_over_six_hundredths_of_every_stage():
    recipe = read_recipe(RECIPES / "dynaroberta_glue.toml")
    assert {recipe.finetune.warmup, *(stage.training.warmup for stage in recipe.stage)} == {0.06}
    assert recipe.model.checkpoint == "roberta-base"
