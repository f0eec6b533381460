"""Reading recipes: every mistake at once, with its file, line and likely meaning; overrides; the way back to TOML."""

import subprocess
import sys
from pathlib import Path

import pytest

from slimformer.errors import RecipeError
from slimformer.recipe import Recipe, differences, parse_recipe, read_recipe, to_table, write_recipe
from slimformer.recipe.source import key_lines

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(FOLDER.rglob("*.toml"))

GOOD = """\
name = "small"
seed = 1

[model]
checkpoint = "bert-base-uncased"

[task]
name = "glue"
subset = "mrpc"

[space]
width = [1.0, 0.5]
depth = [1.0, 0.5]

[finetune]
epochs = 1

[importance]
scorer = { name = "first_order", reduction = "abs_of_sum" }

[[stage]]
name = "width"
axes = ["width"]
terms = [
  { name = "soft_cross_entropy" },
  { name = "hidden_mse", weight = 0.1 },
]
training = { epochs = 1 }

[[stage]]
name = "depth"
axes = ["width", "depth"]
teacher = "width"
terms = ["soft_cross_entropy"]

[evaluation]
snapshots = ["base"]
costs = ["params"]
workload = { length = 64 }
"""


@pytest.fixture
def read(tmp_path):
    """Reads the good recipe after replacing pieces of its text (old, new, old, new, ...)."""

    def read(*changes, sets=()):
        text = GOOD
        for old, new in zip(changes[::2], changes[1::2], strict=True):
            assert text.count(old) >= 1
            text = text.replace(old, new, 1)
        (tmp_path / "r.toml").write_text(text, encoding="utf-8")
        return read_recipe(tmp_path / "r.toml", sets)

    return read


@pytest.fixture
def mistakes(read, tmp_path):
    """The lines of the error that a changed recipe raises, each file name without its folder."""

    def mistakes(*changes, sets=()):
        with pytest.raises(RecipeError) as caught:
            read(*changes, sets=sets)
        return str(caught.value).replace(f"{tmp_path}/", "").split("\n")

    return mistakes


def test_the_good_recipe_is_good(read):
    assert [stage.name for stage in read().stage] == ["width", "depth"]


def test_a_recipe_class_reads_a_file_with_overrides(read, tmp_path):
    wanted = read(sets=["seed=5"])
    assert Recipe.read(str(tmp_path / "r.toml"), ["seed=5"]) == wanted
    with pytest.raises(RecipeError, match="sed: unknown key"):
        Recipe.read(tmp_path / "r.toml", ["sed=5"])


def test_every_mistake_is_reported_at_once_each_on_its_line(mistakes):
    found = mistakes(
        "seed = 1", "sed = 1",
        "epochs = 1\n", "epoch = 1\n",
        "reduction =", "reducton =",
        "weight = 0.1", "wieght = 0.1",
        "width = [1.0, 0.5]", "width = [1.0, 1.5]",
        "length = 64", "lenght = 64",
        'name = "soft_cross_entropy"', 'name = "soft_cross_entropi"',
    )  # fmt: skip
    heads = {line.split(": ")[0]: line for line in found}
    assert sorted(heads) == sorted(f"r.toml:{line}" for line in (2, 12, 16, 19, 25, 26, 39))
    for line, said in {
        2: "sed: unknown key (did you mean 'seed'?)",
        12: "space.width.1: input should be less than or equal to 1, got 1.5",
        16: "finetune.epoch: unknown key (did you mean 'epochs'?)",
        19: "importance.scorer.reducton: unknown key (did you mean 'reduction'?)",
        25: "stage.0.terms.0: no loss term is called 'soft_cross_entropi'. Did you mean 'soft_cross_entropy'?",
        26: "stage.0.terms.1.wieght: unknown key (did you mean 'weight'?)",
        39: "evaluation.workload.lenght: unknown key (did you mean 'length'?)",
    }.items():
        assert said in heads[f"r.toml:{line}"]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("epochs = 1\n", 'epochs = "many"\n', "r.toml:16: finetune.epochs: input should be a valid number"),
        ("epochs = 1\n", "epochs = -1\n", "r.toml:16: finetune.epochs: input should be greater than or equal to 0, got -1"),
        ("[1.0, 0.5]", "[1.0, 0]", "r.toml:12: space.width.1: input should be greater than 0, got 0"),
        ("[1.0, 0.5]", "0.5", "r.toml:12: space.width: input should be a list, got 0.5"),
        ("[1.0, 0.5]", "[]", "r.toml:12: space.width: list should have at least 1 item"),
        ('axes = ["width"]', 'axes = "width"', "r.toml:23: stage.0.axes: input should be a list, got 'width'"),
        ('"glue"', '"gleu"', "r.toml:7: task: no task is called 'gleu'. Did you mean 'glue'?"),
        (
            'name = "glue"\n',
            "",
            "r.toml:7: task: write name = one of: causal_lm, docstrings, glue, image_classification, squad, ",
        ),
        ('"glue"\nsubset = "mrpc"', '"text_files"', "r.toml:7: task.train: missing; write train = ..."),
        (
            '[task]\nname = "glue"\nsubset = "mrpc"',
            "",
            "r.toml: task: missing; write name = one of: causal_lm, docstrings, glue, ",
        ),
        ('checkpoint = "bert-base-uncased"', "", "r.toml:4: model.checkpoint: missing; write checkpoint = ..."),
        ('["soft_cross_entropy"]', '["soft_entropy"]', "r.toml:34: stage.1.terms.0: no loss term is called 'soft_entropy'"),
        ("[importance]", 'rewiring = "srt"\n[importance]', "r.toml:18: finetune.rewiring: unknown key; allowed: epochs"),
        ("[space]", '[rewiring]\nname = "srt"\n[space]', "r.toml:11: rewiring: no rewiring pass is called 'srt'"),
        ('name = "small"', 'name = "a/b"', "r.toml:1: name: string should match pattern"),
    ],
)
def test_a_mistake_is_one_line_with_place_and_remedy(mistakes, old, new, line):
    (found,) = mistakes(old, new)
    assert found.startswith(line)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (("seed = 1", "seed = = 1"), "r.toml:2: not TOML"),
        (("seed = 1", "seed = 1\nseed = 2"), "r.toml:3: not TOML"),
        (('costs = ["params"]', 'costs = ["params"'), "r.toml:39: not TOML"),
    ],
)
def test_bad_toml_is_reported_on_its_line(mistakes, changes, line):
    (found,) = mistakes(*changes)
    assert found.startswith(line)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, content):
    file = tmp_path / "missing.toml"
    if content:
        file.write_bytes(content)
    with pytest.raises(RecipeError, match=r"^no recipe can be read from .*missing\.toml: .+$"):
        read_recipe(file)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("finetune", "--set finetune: write key=value, for example"),
        ("=3", "--set =3: write key=value, for example"),
        ("stage.wdith.axes=[]", "--set stage.wdith.axes=[]: no item is called 'wdith'; there are: width, depth"),
        ("stage.2.axes=[]", "--set stage.2.axes=[]: no item is called '2'; there are: width, depth"),
        ("seed.x=1", "--set seed.x=1: 'x' cannot stand below a plain value"),
        ("name.x=1", "--set name.x=1: 'x' cannot stand below a plain value"),
        ("task.subset.x=1", "--set task.subset.x=1: 'x' cannot stand below a plain value"),
        ("finetune.epoch=2", "--set finetune.epoch=2: finetune.epoch: unknown key (did you mean 'epochs'?)"),
        ("finetune.epochs=two", "--set finetune.epochs=two: finetune.epochs: input should be a valid number"),
        ("space.width=[2]", "--set space.width=[2]: space.width.0: input should be less than or equal to 1, got 2"),
        ("task.name=gleu", "--set task.name=gleu: task: no task is called 'gleu'. Did you mean 'glue'?"),
        ("stage.width.terms=[]", "--set stage.width.terms=[]: stage.0.terms: no loss term: write, for example"),
    ],
)
def test_a_wrong_override_is_reported_as_it_was_written(mistakes, override, said):
    assert mistakes(sets=[override])[0].startswith(said)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("seed=7", lambda r: r.seed == 7),
        ("finetune.learning_rate=1e-3", lambda r: r.finetune.learning_rate == 1e-3),
        ("space.width=[1.0, 0.25]", lambda r: r.space.axes[0].ratios == (1.0, 0.25)),
        ("space.width.1=0.75", lambda r: r.space.axes[0].ratios == (1.0, 0.75)),
        ("machine.group_by_length=true", lambda r: r.machine.group_by_length is True),
        ("model.checkpoint=roberta-base", lambda r: r.model.checkpoint == "roberta-base"),
        ('model.checkpoint="1e-3"', lambda r: r.model.checkpoint == "1e-3"),
        ("model.checkpoint=a=b", lambda r: r.model.checkpoint == "a=b"),
        ("model.fallback=", lambda r: r.model.fallback == ""),
        ("task={name='docstrings', max_eval=8}", lambda r: r.task.max_eval == 8),
        ("machine.workers = 2", lambda r: r.machine.workers == 2),
    ],
)
def test_an_overrides_value_is_toml_or_else_plain_text(read, override, value):
    assert value(read(sets=[override]))


@pytest.mark.parametrize("item", ["depth", "1"])
def test_an_override_finds_a_stage_by_its_name_or_position(read, item):
    recipe = read(sets=[f"stage.{item}.training.epochs=9"])
    assert [stage.training.epochs for stage in recipe.stage] == [1, 9]


@pytest.mark.parametrize("item", ["hidden_mse", "1"])
def test_an_override_finds_a_loss_term_by_its_name_or_position(read, item):
    assert [term.weight for term in read(sets=[f"stage.width.terms.{item}.weight=9"]).stage[0].terms] == [1, 9]


def test_an_override_replaces_a_component_by_its_bare_name_and_then_sets_an_option_of_it(read):
    recipe = read(
        sets=["importance.scorer=activation_norm", "stage.width.sampler=uniform", "rewiring=shuffle", "rewiring.seed=3"]
    )
    table = to_table(recipe)
    assert table["importance"]["scorer"]["name"] == "activation_norm"
    assert table["stage"][0]["sampler"]["name"] == "uniform"
    assert table["rewiring"] == {"name": "shuffle", "seed": 3}


def test_an_override_sets_an_option_of_a_listed_component_that_was_written_by_its_bare_name(read):
    assert read(sets=["stage.depth.terms.soft_cross_entropy.weight=0.5"]).stage[1].terms[0].weight == 0.5


def test_later_overrides_win(read):
    assert read(sets=["seed=2", "seed=3"]).seed == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            ('teacher = "width"', 'teacher = "wdith"'),
            "r.toml:33: stage.1.teacher: 'wdith' is no earlier stage; there are: base",
        ),
        (('axes = ["width"]', 'axes = ["hidden"]'), "r.toml:23: stage.0.axes: 'hidden' is not an axis of [space], which has"),
        (('teacher = "width"', 'follow = ["heads"]'), "r.toml:33: stage.1.follow: 'heads' is not an axis of [space]"),
        (('name = "depth"', 'name = "width"'), "r.toml:31: stage.1.name: 'width' is already the name of another step"),
        (
            ('snapshots = ["base"]', 'snapshots = ["largest"]'),
            "r.toml:37: evaluation.snapshots: 'largest' is no point of the run",
        ),
        (('snapshots = ["base"]', 'snapshots = ["wdith"]'), "there are: base, rewired, width, depth"),
        (
            ('costs = ["params"]', 'costs = ["flop"]'),
            "r.toml:38: evaluation.costs: no cost is called 'flop'. Did you mean 'flops'?",
        ),
        (('["soft_cross_entropy"]', "[]"), "r.toml:34: stage.1.terms: no loss term: write, for example"),
    ],
)
def test_a_name_that_refers_to_nothing_is_an_error(mistakes, changes, said):
    assert any(said in line for line in mistakes(*changes))


@pytest.mark.parametrize("name", ["base", "largest", "rewired", "rewiring", "supernet", "finetune"])
def test_no_stage_is_called_like_a_step_of_the_run(mistakes, name):
    assert (
        f"--set stage.depth.name={name}: stage.1.name: {name!r} is already the name of another step of the run: write another"
        in (mistakes(sets=[f"stage.depth.name={name}"]))
    )


def test_a_space_without_an_axis_is_an_error(mistakes):
    assert any(
        "no axis is elastic: write, for example, width =" in line
        for line in mistakes("width = [1.0, 0.5]\ndepth = [1.0, 0.5]", "")
    )


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_written_recipe_reads_back_equal(path, tmp_path):
    recipe = read_recipe(path)
    write_recipe(recipe, tmp_path / "written.toml")
    again = read_recipe(tmp_path / "written.toml")
    assert again == recipe
    assert differences(to_table(again), to_table(recipe)) == []
    assert parse_recipe(to_table(recipe)) == recipe


def test_a_written_recipe_spells_out_every_default(read, tmp_path):
    write_recipe(read(), tmp_path / "written.toml")
    text = (tmp_path / "written.toml").read_text()
    for key in ("learning_rate", "save_steps", "depth_policy", "max_grad_norm", "padding"):
        assert key in text


def test_differences_name_the_key_and_both_values(read):
    one, other = to_table(read()), to_table(read(sets=["stage.depth.training.epochs=9", "seed=2"]))
    assert differences(one, other) == ["seed: 1 -> 2", "stage.1.training.epochs: 3.0 -> 9.0"]


def test_lines_of_nested_tables_and_of_listed_inline_tables_are_found():
    lines = key_lines(
        "a = 1\n[t.u]\nb = 2\n[[s]]\nc = [\n  # comment\n  { d = 1 },\n  { d = 2 },\n]\n[s.v]\ne = 1\n[[s]]\nc = 3\n"
    )
    assert lines["a",] == 1
    assert lines["t", "u", "b"] == 3
    assert (lines["s", 0, "c", 0], lines["s", 0, "c", 1]) == (7, 8)
    assert (lines["s", 0, "v", "e"], lines["s", 1, "c"]) == (11, 13)


def test_reading_every_recipe_imports_neither_torch_nor_transformers():
    script = (
        "import sys\nfrom pathlib import Path\nfrom slimformer.recipe_file import read_recipe\n"
        "for path in sys.argv[1:]: read_recipe(Path(path))\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'sklearn', 'numpy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *map(str, RECIPES)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


PASS = """
from dataclasses import dataclass
from slimformer.rewiring import PASSES, Rewiring

@PASSES.register("reversed")
@dataclass(frozen=True)
class Reversed:
    \"\"\"Units in reverse order.\"\"\"

    from_block: int = 0

    def __call__(self, topology, scores):
        return Rewiring.of(topology, {g.name: range(g.num_units)[::-1] for g in topology.groups})
"""


def test_a_recipe_names_a_python_file_with_a_component_of_the_users_own(tmp_path, supernet):
    (tmp_path / "my_pass.py").write_text(PASS)
    text = (FOLDER / "quickstart.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text('plugins = ["my_pass.py"]\n' + text + '\n[rewiring]\nname = "reversed"\nfrom_block = 1\n')
    recipe = read_recipe(path)
    assert recipe.rewiring(supernet.topology, {}).orders["encoder.0.heads"] == (3, 2, 1, 0)
    write_recipe(recipe, tmp_path / "resolved.toml")
    assert read_recipe(tmp_path / "resolved.toml") == recipe


@pytest.mark.parametrize(("content", "said"), [(None, "there is no Python file"), ("1 / 0", "ZeroDivisionError")])
def test_a_plugin_file_that_is_missing_or_fails_is_named_with_its_line(tmp_path, content, said):
    if content is not None:
        (tmp_path / "broken.py").write_text(content)
    path = tmp_path / "mine.toml"
    path.write_text('plugins = ["broken.py"]\n' + (FOLDER / "quickstart.toml").read_text())
    with pytest.raises(RecipeError, match=said) as caught:
        read_recipe(path)
    assert str(caught.value).startswith(f"{path}:1: plugins: ")
