"""The command line before any run: help, lists, exit codes, one-line errors, and how little it imports."""

import json
import os
import signal
import subprocess
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from slimformer import testing
from slimformer.cli import app as cli
from slimformer.discovery import inspect as inspection
from slimformer.errors import InfeasibleError, InterruptedRunError
from slimformer.registry import REGISTRIES
from slimformer.runs.folder import RunFolder

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "160", "NO_COLOR": "1"}


@pytest.fixture
def slimformer(tmp_path, monkeypatch):
    """Runs the command in an empty folder; returns its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["slimformer", *map(str, arguments)])
        stdout, stderr, code = StringIO(), StringIO(), 0
        with redirect_stdout(stdout), redirect_stderr(stderr):
            try:
                cli.main()
            except SystemExit as stop:
                code = stop.code
        return code, stdout.getvalue(), stderr.getvalue()

    return run


def one_line(stderr):
    assert stderr.startswith("slimformer: ")
    assert stderr.count("\n") == 1
    return stderr


def test_list_names_every_component_of_every_registry(slimformer):
    code, stdout, _ = slimformer("list")
    assert code == 0
    for plural, registry in REGISTRIES.items():
        assert plural in stdout
        for name in registry.names():
            assert f"  {name}  {registry.summary(name)}" in stdout


def test_list_shows_one_registry_with_the_options_of_its_components(slimformer):
    code, stdout, _ = slimformer("list", "tasks")
    assert code == 0
    assert stdout.startswith("tasks\n")
    assert "      max_length = 128  whole number, 1 or more  tokens per example." in stdout
    assert "backbones" not in stdout


def test_list_as_json_is_one_document(slimformer):
    code, stdout, stderr = slimformer("list", "--json")
    table = json.loads(stdout)
    assert (code, stderr) == (0, "")
    assert set(table) == set(REGISTRIES)
    assert set(table["tasks"]) >= {"docstrings", "glue", "text_files"}


def test_listing_what_does_not_exist_names_what_does(slimformer):
    code, stdout, stderr = slimformer("list", "nonsense")
    assert (code, stdout) == (2, "")
    assert "no registry is called 'nonsense'; there are: axes, backbones, costs" in one_line(stderr)


@pytest.mark.parametrize("command", ["search", "evaluate", "export --to x"])
def test_a_command_that_needs_a_run_says_how_to_make_one(slimformer, command):
    code, _, stderr = slimformer(*command.split())
    assert code == 2
    assert "there is no run in runs: give one with --run FOLDER, or make one: slimformer run recipes/" in one_line(stderr)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("search", "--max-flops", "1X"),
            "'1X' is not a quantity in FLOPs, one multiply-add = 2: write a number with one of k, M, G, T",
        ),
        (("search", "--max-params", "-5"), "'-5' is not a quantity"),
        (("search", "--max-macs", "0"), "'0' is not above zero"),
        (("search", "--max", "flops"), "--max flops: write COST=VALUE, for example --max flops=1G"),
        (("search", "--max", "flop=1G"), "no cost is called 'flop'. Did you mean 'flops'?"),
        (("search", "--run", "nowhere"), "nowhere holds no run: give a folder made by 'slimformer run'"),
        (("run", "nowhere.toml"), "no recipe can be read from nowhere.toml: No such file or directory"),
        (("inspect", "./nowhere"), "there is no folder ./nowhere: give the folder of a model"),
        (("inspect", "no-such-model"), "no-such-model describes no transformers model"),
        (("inspect", "package:no-such-weights/x"), "pip install --no-deps no-such-weights"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_input_is_one_line_on_stderr_and_exit_code_two(slimformer, arguments, said):
    code, stdout, stderr = slimformer(*arguments)
    assert (code, stdout) == (2, "")
    assert said in one_line(stderr)


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("run",), ("export",), ("run", "--nonsense"), ("inspect", "x", "--length", "many"), ()]
)
def test_wrong_usage_is_exit_code_two_without_a_traceback(slimformer, arguments):
    code, _, stderr = slimformer(*arguments)
    assert code == 2
    assert "Traceback" not in stderr


def test_every_mistake_of_a_recipe_is_printed_with_file_and_line(slimformer, tmp_path):
    text = (ROOT / "recipes" / "quickstart.toml").read_text().replace("seed = 0", "sed = 0").replace("epochs = 3", "epoch = 3")
    (tmp_path / "r.toml").write_text(text)
    code, stdout, stderr = slimformer("run", "r.toml", "--set", "finetune.warmpu=0")
    lines = stderr.splitlines()
    assert (code, stdout, len(lines)) == (2, "", 3)
    numbers = {name: text.split("\n").index(name) + 1 for name in ("sed = 0", "epoch = 3")}
    assert f"r.toml:{numbers['sed = 0']}: sed: unknown key (did you mean 'seed'?)" in stderr
    assert f"r.toml:{numbers['epoch = 3']}: finetune.epoch: unknown key (did you mean 'epochs'?)" in stderr
    assert "--set finetune.warmpu=0: finetune.warmpu: unknown key (did you mean 'warmup'?)" in stderr
    assert not (tmp_path / "runs").exists()


def test_inspect_shows_axes_groups_and_costs_of_a_folder(slimformer, checkpoint):
    code, stdout, stderr = slimformer("inspect", checkpoint, "--length", 32)
    assert (code, stderr) == (0, "")
    for word in ("BertForSequenceClassification", "width.heads", "width.ffn", "depth", "params", "flops", "one multiply-add"):
        assert word in stdout


def test_inspect_as_json_has_every_group_and_counts_the_parameters_exactly(slimformer, checkpoint, bert):
    found = json.loads(slimformer("inspect", checkpoint, "--json", "--length", 32)[1])
    assert found["extremes"][0]["costs"]["params"] == sum(p.numel() for p in bert.parameters())
    assert {group["axis"] for group in found["groups"].values()} == {"width.heads", "width.ffn"}
    assert len(found["groups"]) == 8


def test_inspect_shows_the_stream_where_the_backbones_option_asks_for_it(slimformer, checkpoint):
    found = json.loads(slimformer("inspect", checkpoint, "--json", "--length", 32, "--set", "hidden=true")[1])
    assert [row["axis"] for row in found["axes"]] == ["width.heads", "width.ffn", "hidden", "depth", "all"]
    whole, stream = found["axes"][4], found["axes"][2]
    assert 0.7 < stream["elastic"]["params"] < whole["elastic"]["params"] < 1
    code, _, stderr = slimformer("inspect", checkpoint, "--length", 32, "--set", "hiden=true")
    assert code == 2
    assert "backbone 'bert' has no option hiden=True; its options: hidden (bool)" in one_line(stderr)


def test_a_law_that_a_model_breaks_is_one_line_and_exit_code_two(slimformer, checkpoint, monkeypatch):
    def broken(case):
        """Law 0: nothing holds."""
        raise AssertionError("law 0 is broken for everything")

    monkeypatch.setattr(testing, "LAWS", (broken,))
    code, stdout, stderr = slimformer("inspect", checkpoint, "--length", 32, "--check")
    assert (code, stdout) == (2, "")
    assert stderr == "checking Law 0: nothing holds.\nslimformer: law 0 is broken for everything\n"


def test_new_backbone_names_its_files_and_how_to_install_them(slimformer, tmp_path):
    code, stdout, _ = slimformer("new-backbone", "my_family")
    assert code == 0
    assert "slimformer-my-family/slimformer_my_family/__init__.py" in stdout
    assert "pip install -e 'slimformer-my-family[test]' && pytest slimformer-my-family" in stdout
    assert (tmp_path / "slimformer-my-family" / "pyproject.toml").is_file()
    code, _, stderr = slimformer("new-backbone", "bert", "--to", "other")
    assert code == 2
    assert "a backbone is already called 'bert': take another name" in one_line(stderr)


def test_inspect_counts_more_flops_for_longer_examples(slimformer, checkpoint):
    short, long = (json.loads(slimformer("inspect", checkpoint, "--json", "--length", n)[1]) for n in (8, 32))
    assert long["extremes"][0]["costs"]["flops"] > 4 * short["extremes"][0]["costs"]["flops"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{", "describes no transformers model"),
        ('{"model_type": "bert"}', "describes no transformers model"),
        (None, "config.json"),
    ],
)
def test_inspecting_a_folder_that_is_no_model_is_one_line(slimformer, tmp_path, config, said):
    (tmp_path / "model").mkdir()
    if config:
        (tmp_path / "model" / "config.json").write_text(config)
    code, _, stderr = slimformer("inspect", tmp_path / "model")
    assert code == 2
    assert said in one_line(stderr)


def test_a_model_in_which_nothing_can_be_proven_elastic_is_refused_with_the_reasons(slimformer, tmp_path):
    text = json.dumps({"model_type": "mamba", "architectures": ["MambaForCausalLM"], "num_hidden_layers": 1, "hidden_size": 8})
    (tmp_path / "config.json").write_text(text)
    code, _, stderr = slimformer("inspect", str(tmp_path))
    assert code == 2
    *progress, last = stderr.splitlines()
    assert progress[0] == "tracing MambaForCausalLM"
    assert last.startswith("slimformer: nothing in MambaForCausalLM could be proven elastic: ")
    assert "backbone.layers.0.mixer.out_proj: " in last


@pytest.mark.parametrize(
    ("error", "code"),
    [(InfeasibleError("none"), 3), (InterruptedRunError("stopped"), 130), (KeyboardInterrupt(), 130)],
    ids=["infeasible", "interrupted", "ctrl-c"],
)
def test_the_exit_code_tells_what_happened(slimformer, monkeypatch, error, code):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(inspection, "inspect_checkpoint", fail)
    found, _, stderr = slimformer("inspect", "x")
    assert found == code
    one_line(stderr)


def broken(*arguments):
    """Fails as a library would, with a cause and a message that tries to write to the terminal."""
    try:
        return 1 / 0
    except ZeroDivisionError as error:
        error.args = ("bad \x1b[31mred\x1b[0m\x07 thing\nsecond line",)
        raise RuntimeError("outer") from error


def test_an_unexpected_error_is_one_line_that_names_the_file_with_its_traceback(slimformer, monkeypatch):
    monkeypatch.setattr(inspection, "inspect_checkpoint", broken)
    code, stdout, stderr = slimformer("inspect", "x", "--json")
    assert (code, stdout) == (2, "")
    assert one_line(stderr).startswith("slimformer: ZeroDivisionError: bad red? thing (a fault of slimformer or of a library")
    file = Path(stderr.split("the traceback is in ")[1].strip().removesuffix(")"))
    assert "RuntimeError: outer" in file.read_text()
    file.unlink()


@pytest.mark.parametrize("arguments", [("inspect", "x", "--debug"), ("--debug", "inspect", "x"), ("inspect", "x")])
def test_debug_prints_the_traceback_of_an_unexpected_error(slimformer, monkeypatch, arguments):
    monkeypatch.setattr(inspection, "inspect_checkpoint", broken)
    if "--debug" not in arguments:
        monkeypatch.setenv("SLIMFORMER_DEBUG", "1")
    code, _, stderr = slimformer(*arguments)
    assert code == 2
    assert "Traceback" in stderr
    assert stderr.splitlines()[-1].startswith("slimformer: ZeroDivisionError: bad red? thing")


def test_the_traceback_of_a_run_is_kept_in_its_folder_which_may_then_be_used_again(slimformer, monkeypatch, tmp_path):
    text = (ROOT / "recipes" / "quickstart.toml").read_text()
    (tmp_path / "r.toml").write_text(text)
    (tmp_path / "out").mkdir()
    monkeypatch.setattr("slimformer.runs.plan.plan", broken)
    code, _, stderr = slimformer("run", "r.toml", "--dry-run", "--out", "out")
    assert code == 2
    assert "the traceback is in out/traceback.txt" in one_line(stderr)
    assert "RuntimeError: outer" in (tmp_path / "out" / "traceback.txt").read_text()
    assert RunFolder(tmp_path / "out").is_untouched()


def test_a_warning_is_one_line_on_stderr(slimformer, monkeypatch):
    def warns(*arguments):
        warnings.warn("first \x1b[31mline\nsecond", UserWarning, stacklevel=1)
        raise InfeasibleError("none")

    monkeypatch.setattr(inspection, "inspect_checkpoint", warns)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "_showwarnmsg_impl", lambda m: sys.stderr.write(warnings._formatwarnmsg(m)))
        _, _, stderr = slimformer("inspect", "x")
    assert stderr == "slimformer: warning: first line second\nslimformer: none\n"


def test_an_error_line_has_no_terminal_escapes_of_its_input(slimformer):
    code, _, stderr = slimformer("run", "a\x1b[31mb\x07.toml")
    assert code == 2
    assert "\x1b" not in one_line(stderr)
    assert "\x07" not in stderr


@pytest.mark.parametrize("arguments", [("run", "--nonsense"), ("nonsense",), ("inspect", "x", "--length", "many")])
def test_wrong_usage_is_one_line(slimformer, arguments):
    code, stdout, stderr = slimformer(*arguments)
    assert (code, stdout) == (2, "")
    assert one_line(stderr).rstrip().endswith("--help")


def test_version_names_what_results_depend_on(slimformer):
    code, stdout, _ = slimformer("--version")
    assert code == 0
    assert [line.split()[0] for line in stdout.splitlines()] == ["slimformer", "torch", "transformers", "python"]


@pytest.mark.parametrize(
    "command", ["", "run", "search", "evaluate", "export", "compare", "list", "inspect", "new-backbone", "attention", "augment"]
)
def test_every_command_has_the_short_help_option(slimformer, command):
    code, stdout, _ = slimformer(*command.split(), "-h")
    assert code == 0
    assert "--help" in stdout
    assert "--debug" in stdout


def test_a_reader_that_stops_reading_is_no_error():
    command = f"{sys.executable} -m slimformer list | true"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr


def test_the_module_runs_as_the_console_script_does():
    done = subprocess.run(
        [sys.executable, "-m", "slimformer", "list", "nonsense"], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "there are: axes, backbones" in one_line(done.stderr)


LIGHT = """
import sys
sys.argv = ["slimformer", *sys.argv[1:]]
from slimformer.cli import main
try:
    main()
except SystemExit as stop:
    code = stop.code
else:
    code = 0
heavy = sorted({"torch", "transformers", "datasets", "sklearn", "matplotlib"} & set(sys.modules))
print(f"exit {code or 0}, heavy {heavy}")
"""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--help",), 0),
        (("--version",), 0),
        (("run", "--help"), 0),
        (("list",), 0),
        (("list", "tasks", "--json"), 0),
        (("run", "quickstart.toml", "--set", "finetune.epoch=1"), 2),
        (("run", "missing.toml"), 2),
        (("search", "--max-flops", "1X"), 2),
        (("search",), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_help_lists_and_wrong_input_import_nothing_heavy(arguments, code):
    command = [sys.executable, "-c", LIGHT, *arguments]
    done = subprocess.run(command, cwd=ROOT / "recipes", env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"exit {code}, heavy []"


def test_help_shows_every_command(slimformer):
    _, stdout, _ = slimformer("--help")
    for command in ("run", "search", "evaluate", "export", "list", "inspect"):
        assert f" {command} " in stdout


def test_ctrl_c_while_starting_is_exit_code_130_without_a_traceback(tmp_path):
    script = (
        "import os, signal, sys\nfrom slimformer.cli import app as cli\nfrom slimformer.recipe import reader as recipe_file\n"
        "recipe_file.read_recipe = lambda *arguments: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.argv = ['slimformer', 'run', 'x.toml']\ncli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in done.stderr
    assert "the same command goes on" in one_line(done.stderr)
