"""Every Python block of the README and the documentation runs, file by file; every `slimformer` command in them is real."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "benchmarks").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_the_python_blocks_of_a_page_run_in_order(page, tmp_path):
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks(page, "python")), encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_command_that_the_pages_show_has_only_options_that_exist():
    shown = {
        line.strip().strip("`")
        for page in PAGES
        for line in re.findall(
            r"slimformer (?:run|search|evaluate|export|compare|list|inspect|augment|attention|new-backbone)[^`\n|\]]*",
            page.read_text(encoding="utf-8"),
        )
    }
    assert shown
    for command in sorted({line.split()[1] for line in shown}):
        help_text = subprocess.run(
            [sys.executable, "-m", "slimformer", command, "--help"], capture_output=True, text=True, check=True, env=_wide()
        ).stdout
        for line in shown:
            if line.split()[1] == command:
                for option in re.findall(r"--[a-z-]+", line):
                    assert option in help_text, f"{line}: {option}"


def test_every_recipe_that_the_pages_name_is_there():
    for page in PAGES:
        for name in re.findall(r"recipes/[a-z_-]+\.(?:toml|txt)", page.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file(), f"{page.name}: {name}"


def test_every_file_and_option_by_which_the_paper_is_mapped_is_real():
    from slimformer.recipe import read_recipe

    page = (ROOT / "docs" / "dynabert.md").read_text(encoding="utf-8")
    files = re.findall(r"`((?:slimformer|plugins|recipes|tests)/[^` ]+)`", page) + re.findall(r"`python ([^\s`]+)", page)
    assert len(files) > 30
    assert [file for file in files if not (ROOT / file).is_file()] == []
    options = re.findall(r"`([a-z_]+(?:\.[a-z_0-9]+)+=[^`]+)`", page)
    assert len(options) > 20
    for option in options:
        read_recipe(ROOT / "recipes" / "dynabert_glue.toml", [option])


def _wide() -> dict[str, str]:
    import os

    return os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERMINAL_WIDTH": "200"}
