"""The run folder: one recipe each, whole files or none, and one clear line for whatever is damaged or full."""

import errno
import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from slimformer.errors import CheckpointError, RunError
from slimformer.files import append_line, read_json, read_lines, reading, write_text, write_whole, writing
from slimformer.recipe import read_recipe
from slimformer.runs.folder import RunFolder, last_run
from slimformer.runs.ratings import RatingKey, Ratings
from slimformer.runs.recipe_file import begin, folder_for, recipe_of
from slimformer.supernet import SubnetSpec

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart.toml"
SPEC = SubnetSpec({"a": 2, "b": 1}, {"encoder": (0, 2)})


@pytest.fixture(scope="module")
def recipe():
    return read_recipe(QUICKSTART)


@pytest.fixture(scope="module")
def other():
    return read_recipe(QUICKSTART, ["seed=9", "finetune.epochs=1"])


@pytest.fixture
def folder(tmp_path, recipe):
    """A run of the recipe that has rated something."""
    made = RunFolder(tmp_path / "run")
    begin(made, recipe)
    Ratings(made).add(RatingKey("base", "validation", SPEC), {"accuracy": 50.0})
    return made


def one_line(caught):
    text = str(caught.value)
    assert "\n" not in text
    return text


def names(path):
    return sorted(file.name for file in path.iterdir())


def test_a_new_folder_holds_the_recipe_and_nothing_else(tmp_path, recipe):
    folder = RunFolder(tmp_path / "deep" / "run")
    begin(folder, recipe)
    assert names(folder.path) == ["recipe.toml"]
    assert recipe_of(folder) == recipe
    assert folder.done() == set()


def test_a_run_of_the_same_recipe_goes_on(folder, recipe):
    before = (folder.path / "recipe.toml").stat().st_mtime_ns
    begin(RunFolder(folder.path), recipe)
    assert (folder.path / "recipe.toml").stat().st_mtime_ns == before


def test_a_run_of_another_recipe_is_refused_and_the_differences_are_named(folder, recipe, other):
    with pytest.raises(RunError) as caught:
        begin(folder, other)
    assert "(seed: 0 -> 9; finetune.epochs: 3.0 -> 1.0): give another --out folder" in one_line(caught)
    assert recipe_of(folder) == recipe


def test_a_run_that_failed_before_it_computed_anything_takes_a_mended_recipe(tmp_path, recipe, other):
    folder = RunFolder(tmp_path / "run")
    begin(folder, recipe)
    (folder.path / "environment.json").write_text("{}")
    begin(folder, other)
    assert recipe_of(folder) == other


def test_a_folder_with_something_else_in_it_is_refused(tmp_path, recipe):
    (tmp_path / "thesis.tex").write_text("do not touch")
    with pytest.raises(RunError) as caught:
        begin(RunFolder(tmp_path), recipe)
    assert "is not empty and holds no run: give another --out folder" in one_line(caught)
    assert names(tmp_path) == ["thesis.tex"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path, recipe):
    (tmp_path / "run").write_text("")
    with pytest.raises(RunError) as caught:
        begin(RunFolder(tmp_path / "run"), recipe)
    assert "run is a file: give another --out folder" in one_line(caught)


def test_a_folder_without_a_run_says_what_to_give(tmp_path):
    with pytest.raises(RunError, match="holds no run: give a folder made by 'slimformer run'"):
        recipe_of(RunFolder(tmp_path))


def test_folders_are_numbered_by_recipe(tmp_path, recipe, other):
    for number, each in enumerate((recipe, other), start=1):
        folder = RunFolder(folder_for(each, tmp_path))
        assert folder.path.name == ("quickstart" if number == 1 else "quickstart-2")
        begin(folder, each)
        Ratings(folder).add(RatingKey("base", "validation", SPEC), {})
    assert folder_for(recipe, tmp_path).name == "quickstart"
    assert folder_for(other, tmp_path).name == "quickstart-2"
    assert folder_for(read_recipe(QUICKSTART, ["seed=3"]), tmp_path).name == "quickstart-3"


def test_a_folder_whose_recipe_is_damaged_is_passed_over(folder, recipe):
    folder.path.rename(folder.path.with_name("quickstart"))
    (folder.path.with_name("quickstart") / "recipe.toml").write_text("name = ")
    assert folder_for(recipe, folder.path.parent).name == "quickstart-2"


def test_the_last_run_is_the_one_written_last(tmp_path, recipe):
    for name in ("one", "two"):
        begin(RunFolder(tmp_path / name), recipe)
        append_line(tmp_path / name / "ratings.jsonl", {})
    (tmp_path / "no_run").mkdir()
    os.utime(tmp_path / "one" / "recipe.toml", (2e9, 2e9))
    assert last_run(tmp_path).name == "one"
    write_text(tmp_path / "two" / "results.json", "{}")
    os.utime(tmp_path / "two" / "results.json", (3e9, 3e9))
    assert last_run(tmp_path).name == "two"


def test_a_run_that_failed_before_it_computed_anything_is_not_the_last_run(folder, recipe):
    begin(RunFolder(folder.path.with_name("failed")), recipe)
    os.utime(folder.path.with_name("failed") / "recipe.toml", (3e9, 3e9))
    assert last_run(folder.path.parent) == folder.path


@pytest.mark.parametrize("root", ["", "missing"])
def test_where_there_is_no_run_the_way_to_one_is_told(tmp_path, root):
    with pytest.raises(RunError, match=r"there is no run in .*: give one with --run FOLDER, or make one: slimformer run"):
        last_run(tmp_path / root)


def test_marked_steps_are_done(folder):
    folder.rewiring.write_text("{}")
    folder.supernet.mkdir()
    folder.mark("rewiring")
    folder.mark("supernet")
    assert RunFolder(folder.path).done() == {"rewiring", "supernet"}


def test_a_step_whose_outcome_was_removed_is_to_be_done_again(folder):
    folder.rewiring.write_text("{}")
    folder.mark("rewiring")
    folder.rewiring.unlink()
    assert folder.done() == set()


def test_metrics_of_a_stage_after_a_step_are_forgotten(folder):
    rows = [{"stage": stage, "step": step} for stage in ("width", "depth") for step in (1, 2, 3)]
    for row in rows:
        append_line(folder.metrics, row)
    folder.forget_metrics("depth", after=1)
    assert read_lines(folder.metrics) == [row for row in rows if row["stage"] == "width" or row["step"] == 1]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_writer_that_fails_leaves_the_old_content_and_nothing_half_written(tmp_path, error, is_folder):
    target = tmp_path / "target"
    if is_folder:
        target.mkdir()
        (target / "old").write_text("old")
    else:
        target.write_text("old")

    def write(partial):
        if is_folder:
            partial.mkdir()
            (partial / "half").write_text("half")
        else:
            partial.write_text("half")
        raise error

    with pytest.raises(type(error)):
        write_whole(target, write)
    assert names(tmp_path) == ["target"]
    assert (target / "old" if is_folder else target).read_text() == "old"


def test_what_a_killed_writer_left_is_cleared_away(tmp_path):
    (tmp_path / ".target.partial").mkdir()
    (tmp_path / ".target.partial" / "half").write_text("half")
    write_text(tmp_path / "target", "new")
    assert names(tmp_path) == ["target"]


def test_a_file_is_there_at_every_moment_of_its_replacement(tmp_path, monkeypatch):
    target, seen, replace = tmp_path / "target", [], os.replace
    target.write_text("old")

    def watched(source, place):
        seen.append(Path(place).read_text())
        replace(source, place)

    monkeypatch.setattr(os, "replace", watched)
    write_text(target, "new")
    assert seen == ["old"]
    assert target.read_text() == "new"


@pytest.mark.parametrize("was_folder", [False, True])
def test_a_folder_takes_the_place_of_what_was_there(tmp_path, was_folder):
    target = tmp_path / "target"
    if was_folder:
        target.mkdir()
        (target / "old").write_text("old")
    else:
        target.write_text("old")

    def write(partial):
        partial.mkdir()
        (partial / "new").write_text("new")

    write_whole(target, write)
    assert names(target) == ["new"]


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "old").write_text("old")
    with pytest.raises(OSError, match="directory"):
        write_text(tmp_path / "target", "new")
    assert names(tmp_path) == ["target"]
    assert names(tmp_path / "target") == ["old"]


def test_lines_are_appended_and_read_back(tmp_path):
    for number in range(3):
        append_line(tmp_path / "lines.jsonl", {"n": number})
    assert read_lines(tmp_path / "lines.jsonl") == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert read_lines(tmp_path / "missing.jsonl") == []


@pytest.mark.parametrize(("start", "kept"), [(b"", []), (b'{"n": 0}\n', [{"n": 0}])])
@pytest.mark.parametrize("cut_short", [b'{"n"', b'{"n": 1, "t": "\xc3'])
def test_a_line_cut_short_by_a_crash_is_left_out_and_the_next_one_is_read(tmp_path, start, kept, cut_short):
    file = tmp_path / "lines.jsonl"
    file.write_bytes(start + cut_short)
    assert read_lines(file) == kept
    append_line(file, {"n": 2})
    append_line(file, {"n": 3})
    assert read_lines(file) == [*kept, {"n": 2}, {"n": 3}]


def test_a_last_line_that_only_lacks_its_end_is_kept(tmp_path):
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b'{"n": 0}\n{"n": 1}')
    append_line(file, {"n": 2})
    assert read_lines(file) == [{"n": 0}, {"n": 1}, {"n": 2}]


@pytest.mark.parametrize("damage", [b"{broken", b"\x00\xff\x00"])
def test_a_damaged_line_in_the_middle_is_named(tmp_path, damage):
    (tmp_path / "lines.jsonl").write_bytes(b'{"n": 0}\n' + damage + b'\n{"n": 1}\n')
    with pytest.raises(RunError) as caught:
        read_lines(tmp_path / "lines.jsonl")
    assert one_line(caught).endswith("lines.jsonl:2 is damaged: remove that line and try again")


@pytest.mark.parametrize("content", [b"", b'{"rows": [', b"\xff\xfe", b"\x00" * 9])
def test_a_damaged_json_file_is_one_line_that_says_how_to_mend_it(tmp_path, content):
    (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(RunError) as caught:
        read_json(tmp_path / "results.json")
    assert "results.json is damaged (" in one_line(caught)
    assert "remove it and run the same 'slimformer run' command again" in one_line(caught)


@pytest.mark.parametrize("content", ["[]", "{}", "3", '{"rows": []}'])
def test_results_without_rows_are_damaged(folder, content):
    folder.results.write_text(content)
    with pytest.raises(RunError, match=r"results\.json is damaged"):
        folder.read_results()


def test_a_run_without_results_is_not_finished(folder):
    with pytest.raises(RunError, match="is not finished: the same 'slimformer run' command goes on with it"):
        folder.read_results()


def test_a_model_that_cannot_be_read_back_is_one_line_that_says_how_to_mend_it(tmp_path):
    with pytest.raises(RunError) as caught, reading(tmp_path / "supernet"):
        raise CheckpointError("cannot load it: header too small; give a folder with config.json")
    assert one_line(caught).endswith(
        "supernet is damaged (cannot load it: header too small): remove it and run the same 'slimformer run' command again"
    )


def test_a_full_disk_is_said_in_so_many_words(tmp_path):
    with pytest.raises(RunError) as caught, writing(tmp_path / "file"):
        write_whole(tmp_path / "file", _full)
    assert "file: the disk is full; nothing finished is lost, the same command goes on" in one_line(caught)
    assert names(tmp_path) == []


def _full(partial):
    partial.write_text("half")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_another_failure_to_write_gives_its_reason(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"could not write .*: .*(Not a directory|File exists)"), writing(tmp_path / "file"):
        write_text(tmp_path / "file" / "below", "text")


def test_an_error_that_is_not_about_files_passes_unchanged(tmp_path):
    with pytest.raises(ZeroDivisionError), writing(tmp_path):
        raise ZeroDivisionError


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_line_that_does_not_fit_on_the_disk_is_one_clear_error():
    with pytest.raises(RunError, match="the disk is full"), writing(Path("metrics.jsonl")):
        append_line(Path("/dev/full"), {"n": 1})


@pytest.fixture
def small_disk(tmp_path):
    """A real disk of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("may not mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_model_that_does_not_fit_on_a_real_disk_leaves_the_run_as_it_was(small_disk, recipe, tiny):
    folder = RunFolder(small_disk / "run")
    begin(folder, recipe)
    Ratings(folder).add(RatingKey("base", "validation", SPEC), {"accuracy": 50.0})
    with pytest.raises(RunError) as caught:
        folder.save_model(folder.supernet, tiny("Bert", hidden_size=64, intermediate_size=256), None)
    assert "supernet: the disk is full; nothing finished is lost" in one_line(caught)
    assert names(folder.path) == ["ratings.jsonl", "recipe.toml"]
    assert Ratings(folder).find(RatingKey("base", "validation", SPEC)) == {"accuracy": 50.0}


def fill(file):
    """Write until nothing fits on the disk any more."""
    with file.open("wb", buffering=0) as stream, suppress(OSError):
        while True:
            stream.write(b"x" * 4096)


def test_ratings_go_on_after_a_real_disk_was_full(small_disk, recipe):
    folder = RunFolder(small_disk / "run")
    begin(folder, recipe)
    Ratings(folder).add(RatingKey("base", "validation", SPEC), {"accuracy": 50.0})
    filler = small_disk / "filler"
    fill(filler)

    def rate_many():
        for number in range(100):
            Ratings(folder).add(RatingKey(f"stage{number}", "validation", SPEC), {"accuracy": 1.0})

    with pytest.raises(RunError, match="the disk is full"):
        rate_many()
    filler.unlink()
    Ratings(folder).add(RatingKey("last", "validation", SPEC), {"accuracy": 60.0})
    assert Ratings(folder).find(RatingKey("base", "validation", SPEC)) == {"accuracy": 50.0}
    assert Ratings(folder).find(RatingKey("last", "validation", SPEC)) == {"accuracy": 60.0}


def test_a_saved_model_reads_back_and_replaces_the_one_before(folder, tiny):
    for size in (64, 32):
        folder.save_model(folder.supernet, tiny("Bert", intermediate_size=size), None)
    config = json.loads((folder.supernet / "config.json").read_text())
    assert config["intermediate_size"] == 32
    again = type(tiny("Bert")).from_pretrained(folder.supernet)
    for name, value in tiny("Bert", intermediate_size=32).state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
