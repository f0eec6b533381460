"""Several processes share one search through a journal; a journal that is damaged, lost or another search's is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slimformer.errors import SearchError
from slimformer.search import Choices, Problem, Random, SharedJournal, search

ROOT = Path(__file__).parents[2]
WORKER = """
import sys, time, json, torch
from pathlib import Path
from slimformer import Axis, Space, Topology, UnitGroup, Slice, load_plugins
from slimformer.search import Choices, Limit, Problem, Random, SharedJournal, search
from slimformer.space import DEPTH_POLICIES
load_plugins()
journal, log, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
groups = tuple(UnitGroup(f"g{i}", "width", 8, (Slice(f"p{i}.weight", 0),)) for i in range(4))
space = Space(Topology(groups, ()), (Axis("width", (1.0, 0.25)),), DEPTH_POLICIES.build("keep_last"))
def price(spec): return {"size": float(sum(spec.units.values()))}
def rate(spec):
    time.sleep(0.02)
    with log.open("a") as stream:
        stream.write(json.dumps(sorted(spec.units.items())) + "\\n")
    return float(sum(units ** 0.5 for units in spec.units.values()))
problem = Problem(Choices(space), price, (Limit("size", 20.0),), max_ratings=20)
found = search(problem, Random(), rate, torch.Generator().manual_seed(seed), SharedJournal(journal, "s", {"what": "a test"}))
print(json.dumps([[c.spec.to_json(), c.rating] for c in found]))
"""


def test_two_processes_share_one_search_and_rate_nothing_twice(tmp_path):
    journal, log = tmp_path / "journal.log", tmp_path / "rated.txt"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WORKER, str(journal), str(log)]
    running = [
        subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) for seed in (1, 2)
    ]
    found = [json.loads(process.communicate(timeout=120)[0]) for process in running]
    rated = log.read_text().splitlines()
    assert len(rated) == len(set(rated)) == 20
    assert found[0] == found[1]
    assert len(found[0]) == 20


@pytest.fixture
def spec(space):
    return space.largest().spec


def test_what_is_told_is_there_for_who_opens_the_journal_next(tmp_path, spec):
    first = SharedJournal(tmp_path / "j.log", "s", {})
    assert first.claim(spec)
    second = SharedJournal(tmp_path / "j.log", "s", {})
    assert not second.claim(spec)
    first.tell(spec, -0.5)
    assert second.others() == {spec: -0.5}
    assert second.count() == 1


def test_a_claim_whose_process_died_is_taken_over_and_one_given_back_too(tmp_path, spec):
    first = SharedJournal(tmp_path / "j.log", "s", {}, patience=0.0)
    assert first.claim(spec)
    assert SharedJournal(tmp_path / "j.log", "s", {}, patience=0.0).claim(spec)
    other = SharedJournal(tmp_path / "k.log", "s", {})
    assert other.claim(spec)
    other.give_up(spec)
    assert SharedJournal(tmp_path / "k.log", "s", {}).claim(spec)


def test_a_rating_that_fails_gives_its_claim_back(tmp_path, space, generator):
    def stop(spec):
        raise KeyboardInterrupt

    problem = Problem(Choices(space), lambda spec: {"size": 1.0})
    with pytest.raises(KeyboardInterrupt):
        search(problem, Random(), stop, generator, SharedJournal(tmp_path / "j.log", "s", {}))
    assert SharedJournal(tmp_path / "j.log", "s", {}).count() == 0


def test_a_study_of_another_search_is_refused(tmp_path):
    SharedJournal(tmp_path / "j.log", "s", {"probe": "512"})
    with pytest.raises(SearchError, match=r"'s' in .* is another search \(probe: 512, not 64\): give another --study"):
        SharedJournal(tmp_path / "j.log", "s", {"probe": "64"})


def test_a_storage_that_is_a_folder_or_damaged_or_lost_is_one_line(tmp_path, spec):
    with pytest.raises(SearchError, match="cannot be used") as caught:
        SharedJournal(tmp_path, "s", {})
    assert "\n" not in str(caught.value)
    (tmp_path / "damaged.log").write_text("{nonsense\n")
    with pytest.raises(SearchError, match="cannot be used"):
        SharedJournal(tmp_path / "damaged.log", "s", {})
    lost = SharedJournal(tmp_path / "lost.log", "s", {})
    (tmp_path / "lost.log").unlink()
    with pytest.raises(SearchError, match=r"lost\.log is gone; the ratings are kept in the run folder: start again"):
        lost.claim(spec)


@pytest.mark.parametrize("content", [b"kept", b"{}", b"[1]", b"7", b"\xff", b'{"text": 1}\n'])
def test_a_file_that_is_no_journal_is_refused_and_kept(tmp_path, content):
    file = tmp_path / "notes.txt"
    file.write_bytes(content)
    with pytest.raises(SearchError, match="cannot be used, as it is no journal of a search"):
        SharedJournal(file, "search", {})
    assert file.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("attributes", [{"spec": 7, "since": 0.0}, {"spec": {"units": []}, "since": 0.0}, {"spec": {}}])
def test_a_journal_whose_trials_have_another_shape_is_one_line_that_names_the_file(tmp_path, attributes):
    import optuna

    shared = SharedJournal(tmp_path / "j.log", "s", {})
    trial = optuna.trial.create_trial(value=1.0, user_attrs=attributes)
    shared._study.add_trial(trial)
    with pytest.raises(SearchError, match=r"j\.log holds a trial 0 that no search wrote") as caught:
        shared.others()
    assert "\n" not in str(caught.value)


def test_a_rating_that_is_nan_is_never_ranked_and_its_claim_is_given_back(tmp_path, space, generator):
    problem = Problem(Choices(space), lambda spec: {"size": 1.0})
    with pytest.raises(SearchError, match="the rating of a sub-network is no number"):
        search(problem, Random(), lambda spec: float("nan"), generator, SharedJournal(tmp_path / "j.log", "s", {}))
    assert SharedJournal(tmp_path / "j.log", "s", {}).count() == 0


@pytest.mark.parametrize(("old", "new"), [("Alone", "SingleProcess"), ("Ledger", "Coordinator"), ("Shared", "SharedJournal")])
def test_an_old_name_warns_and_is_the_new_one(old, new):
    from slimformer import search as folder

    with pytest.warns(DeprecationWarning, match=f"is now {new}"):
        assert getattr(folder, old) is getattr(folder, new)
