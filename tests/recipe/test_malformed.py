"""Recipes with values or text that no recipe may have: each is one line with its file and line."""

from pathlib import Path

import pytest

from slimformer.errors import RecipeError
from slimformer.recipe import read_recipe
from slimformer.recipe.location import dotted
from slimformer.recipe.source import key_lines

GOOD = (Path(__file__).parents[2] / "recipes" / "quickstart.toml").read_text()


@pytest.fixture
def said(tmp_path, monkeypatch):
    """The message that a recipe's bytes and overrides are refused with."""
    monkeypatch.chdir(tmp_path)

    def said(content, *overrides):
        Path("r.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(RecipeError) as caught:
            read_recipe(Path("r.toml"), overrides)
        return str(caught.value)

    return said


def with_seed(value):
    return GOOD.replace("seed = 0", f"seed = {value}")


LINE = GOOD.split("\n").index("seed = 0") + 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_seed("9" * 400), f"r.toml:{LINE}: seed: input should be a whole number of at most 64 bits"),
        (with_seed("0x" + "f" * 5000), f"r.toml:{LINE}: seed: input should be a whole number of at most 64 bits"),
        (with_seed("9" * 5000), f"r.toml:{LINE}: not TOML: Exceeds the limit"),
        (with_seed("nan"), f"r.toml:{LINE}: seed: input should be a finite number, got nan"),
        (with_seed("[" * 5000 + "]" * 5000), f"r.toml:{LINE}: not TOML: tables and lists are nested more than"),
        (with_seed("[" * 90 + "]" * 90), f"r.toml:{LINE}: seed.0: tables and lists are nested more than"),
        (with_seed("0\n" + "a." * 5000 + "a = 1"), f"r.toml:{LINE + 1}: a.a: tables and lists are nested more than"),
        (with_seed('"\x00"'), f"r.toml:{LINE}: not TOML: Illegal character"),
        (GOOD.replace("epochs = 3", "epochs = inf"), "finetune.epochs: input should be a finite number, got inf"),
        (GOOD.replace("epochs = 3", "epochs = 1e999"), "finetune.epochs: input should be a finite number, got inf"),
        (GOOD.replace("epochs = 3", 'epochs = "inf"'), "finetune.epochs: input should be a finite number, got inf"),
        (GOOD.encode() + b"\n# \xff", "r.toml: line"),
        (GOOD.encode("utf-16"), "r.toml: line 1 is not UTF-8 text"),
        ('"a\\nb" = 1\n' + GOOD, "r.toml:1: 'a\\nb': unknown key"),
        ('"\\u001b[31m" = 1\n' + GOOD, "r.toml:1: '\\x1b[31m': unknown key"),
        ('"" = 1\n' + GOOD, "r.toml:1: '': unknown key"),
        ("stage = [1]\n" + GOOD, "r.toml:1: stage.2: input should be a table"),
        ('plugins = ["a\\u0000.py"]\n' + GOOD, "r.toml:1: plugins: "),
        (f'plugins = ["{"x" * 300}.py"]\n' + GOOD, "r.toml:1: plugins: "),
        ("plugins = [1]\n" + GOOD, "r.toml:1: plugins.0: input should be a valid string"),
        ('plugins = ["."]\n' + GOOD, "r.toml:1: plugins: there is no Python file"),
        ("extends.x = 1\n" + GOOD, "r.toml:1: extends: write the path of one recipe"),
        ('"ext\\u0065nds" = "none.toml"\n' + GOOD, "r.toml:1: extends: there is no recipe none.toml"),
        (f'extends = "{"x" * 300}"\n' + GOOD, "r.toml:1: extends: there is no recipe xxx"),
        ('extends = "a\\u0000"\n' + GOOD, "r.toml:1: extends: there is no recipe"),
        ('extends = "."\n' + GOOD, "r.toml:1: extends: there is no recipe ."),
        ('extends = "r.toml"\n' + GOOD, "r.toml:1: extends: r.toml extends this recipe itself"),
    ],
)
def test_a_value_that_no_recipe_may_have_is_one_line_with_its_place(said, content, message):
    found = said(content)
    assert message in found
    assert "\n" not in found


def test_recipes_that_extend_each_other_are_one_line(said, tmp_path):
    (tmp_path / "other.toml").write_text('extends = "r.toml"')
    assert said('extends = "other.toml"') == "other.toml:1: extends: r.toml extends this recipe itself"


@pytest.mark.parametrize("value", ["9" * 5000, "9" * 400, "nan", "[" * 5000, "[" * 90 + "]" * 90, '1\nname = "x"', "\x1b[31m"])
def test_an_odd_value_of_an_override_is_one_line_that_names_it(said, value):
    found = said(GOOD, f"seed={value}")
    assert found.startswith("--set seed=")
    assert found.isprintable()


def test_an_empty_recipe_names_what_is_missing(said):
    assert [line.split(": ")[1] for line in said("").split("\n")] == ["name", "model", "task", "space"]


def test_a_byte_order_mark_and_line_ends_of_windows_are_no_mistake(tmp_path):
    (tmp_path / "r.toml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert read_recipe(tmp_path / "r.toml").name == "quickstart"


def test_lines_of_quoted_keys_are_found():
    lines = key_lines('a."b.c" = 1\n["d e".f]\n\'g\' = 2\n"h\\u0069" = 3\n')
    assert lines == {("a", "b.c"): 1, ("d e", "f"): 2, ("d e", "f", "g"): 3, ("d e", "f", "hi"): 4}


def test_a_key_that_cannot_be_shown_stands_in_quotes():
    assert dotted(("stage", 0, "name")) == "stage.0.name"
    assert dotted(("a\nb", "")) == "'a\\nb'.''"
