"""Names cannot break what shows them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from slimformer.cli.console import ConsoleReport
from slimformer.reports.escape import for_html, for_markdown, for_rich, plain
from slimformer.reports.search import candidates_table, page

HOSTILE = [
    "[/x]",
    "[bold]",
    "<script>alert(1)</script>",
    "a\x1b[31mb",
    "a|b",
    "a\nb",
    "---\ntags: x",
    "a\\",
    "\u202eabc",
    "\x9b31m",
]


def shown(item: object) -> str:
    stream = io.StringIO()
    Console(file=stream, width=200, color_system=None).print(item, highlight=False)
    return stream.getvalue()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_shown_as_it_is_by_rich(name):
    assert shown(for_rich(name)) == plain(name) + "\n"


@pytest.mark.parametrize("name", HOSTILE)
def test_no_control_character_of_a_name_reaches_a_terminal(name):
    assert plain(name).isprintable()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_one_cell_of_a_markdown_table_without_tags(name):
    text = for_markdown(name)
    assert "\n" not in text
    assert "<" not in text
    assert "|" not in text.replace("\\|", "")


def test_html_keeps_lines_and_no_tags():
    assert for_html('<b>"x"\ny') == "&lt;b&gt;&quot;x&quot;\ny"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_search_shows_hostile_names(name):
    row = {"name": name, "rating": -0.5, "costs": {name: 1.0}, "spec": {"units": {"a.heads": 2}, "blocks": {name: [0]}}}
    outcome = {
        "name": name, "rating": name, "limits": [name], "minimise": "", "strategy": name, "winner": row, "costs": {name: name},
        "workload": {"batch_size": 1, "length": 8}, "candidates": [row],
    }  # fmt: skip
    outcome["minimise"] = name
    assert "<script>alert" not in page(outcome)
    assert "\x1b" not in page(outcome)
    assert plain(name) in shown(candidates_table(outcome))


@pytest.mark.parametrize("name", HOSTILE)
def test_progress_on_a_console_says_a_hostile_name(name, capsys):
    ConsoleReport().say(name)
    assert "\x1b" not in capsys.readouterr().err
