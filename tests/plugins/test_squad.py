"""Question answering: windows that cover their context, answers mapped back to text, and the official scripts' counting."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from slimformer.errors import DataError
from slimformer.supernet import logits_of
from slimformer.tasks import evaluate, predict
from slimformer_text.squad import Squad
from slimformer_text.squad_score import best_span, exact_match, f1, gold_answers, normalise
from tests.conftest import build_tiny, build_tokenizer

WORDS = ["the", "cat", "is", "a", "good", "film", "1", "2", "3", "4", "5", "6", "7", "8", "9", "bad", "dog", "0"]
LONG = " ".join(WORDS * 6)


def asked(context: str, question: str, *answers: str) -> dict:
    spans = [{"text": answer, "answer_start": context.index(answer)} for answer in answers]
    return {"question": question, "answers": spans, "is_impossible": not answers}


def write(folder: Path, train: list[tuple[str, dict]], dev: list[tuple[str, dict]]) -> str:
    for name, rows in (("train-v1.1.json.gz", train), ("dev-v1.1.json", dev)):
        paragraphs = [{"context": context, "qas": [qa | {"id": str(i)}]} for i, (context, qa) in enumerate(rows)]
        data = json.dumps({"data": [{"paragraphs": paragraphs}]}).encode()
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return str(folder)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    short = ("the cat is good", asked("the cat is good", "is the cat good", "cat is"))
    long = (LONG, asked(LONG, "a film", "9 bad dog", "bad dog"))
    return write(tmp_path, [short, long] * 5, [long, short])


@pytest.fixture(scope="module")
def long_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a body that takes 100 tokens and its tokenizer."""
    folder = tmp_path_factory.mktemp("long")
    build_tiny("Bert", max_position_embeddings=100).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return str(folder)


def task(folder: str, **options) -> Squad:
    return Squad(folder, **{"max_length": 90, "stride": 10} | options)


def certain(data, split: str, wanted: dict[int, tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are sure of the given token positions, by window, and nan beyond each window."""
    sizes = [len(example["input_ids"]) for example in data.split(split)]
    start, end = (np.full((len(sizes), max(sizes)), np.nan) for _ in range(2))
    for row, size in enumerate(sizes):
        start[row, :size] = end[row, :size] = 0.0
        if row in wanted:
            start[row, wanted[row][0]] = end[row, wanted[row][1]] = 9.0
    return start, end


# --- the official scripts' rules --------------------------------------------------------------------------------------


def test_answers_are_compared_without_case_articles_punctuation_and_spaces() -> None:
    assert normalise(" The  Cat's, an A-B. ") == "cats ab"
    assert exact_match("The Cat!", ["a cat"]) == 1
    assert exact_match("the cats", ["a cat", "dog"]) == 0


@pytest.mark.parametrize(
    ("predicted", "answers", "value"),
    [
        ("the good cat", ["good cat"], 1.0),
        ("good cat dog", ["good cat"], 0.8),  # precision 2/3, recall 1
        ("good", ["a bad film", "good good cat"], 0.5),  # best of the answers; precision 1, recall 1/3
        ("cat cat", ["cat"], 2 / 3),  # a word counts as often as both have it
        ("dog", ["cat"], 0.0),
    ],
)
def test_f1_counts_shared_words(predicted: str, answers: list[str], value: float) -> None:
    assert f1(predicted, answers) == pytest.approx(value)


def test_an_empty_answer_counts_as_in_the_script_of_the_version() -> None:
    assert (f1("", [""]), f1("", [""], no_answer=True), f1("cat", [""], no_answer=True)) == (0, 1, 0)
    assert (gold_answers([], True), gold_answers(["the", "cat"], True), gold_answers(["the"], False)) == (
        [""],
        ["cat"],
        ["the"],
    )


def test_the_best_span_is_the_best_of_all_that_are_short_enough() -> None:
    draw = np.random.default_rng(0)
    for longest in (1, 3, 50):
        start, end = draw.normal(size=(2, 20))
        spans = [(start[i] + end[j], i, j) for i in range(20) for j in range(i, min(20, i + longest))]
        found = best_span(start, end, longest)
        assert (found.logit, found.first, found.last) == max(spans)


# --- windows ----------------------------------------------------------------------------------------------------------


def test_the_windows_of_a_long_context_cover_it_and_share_the_stride(folder: str, checkpoint: str) -> None:
    data = task(folder).load(checkpoint)
    windows = [window for window in data.score.windows["validation"] if window.question == 0]
    assert len(windows) > 1
    covered = [offset for window in windows for offset in window.offsets]
    assert set(covered) == {(i, i + len(word)) for word, i in zip(LONG.split(), word_starts(LONG), strict=True)}
    for one, other in pairwise(windows):
        assert one.offsets[-10:] == other.offsets[:10]


def word_starts(text: str) -> list[int]:
    return [0, *(i + 1 for i, letter in enumerate(text) if letter == " ")]


def test_the_labels_are_the_answers_tokens_and_the_first_token_where_the_window_lacks_it(folder: str, checkpoint: str) -> None:
    data = task(folder).load(checkpoint)
    seen = set()
    for window, example in zip(data.score.windows["train"], data.train, strict=True):
        question = data.score.questions["train"][window.question]
        first, last = example["start_positions"], example["end_positions"]
        if (first, last) != (0, 0):
            begin, finish = window.offsets[first - window.first][0], window.offsets[last - window.first][1]
            assert question.context[begin:finish] == question.answers[0]
        seen.add((len(question.context) > 50, (first, last) != (0, 0)))
    assert seen == {(False, True), (True, True), (True, False)}


def test_answers_are_mapped_back_from_windows_to_questions(folder: str, checkpoint: str) -> None:
    data = task(folder).load(checkpoint)
    right = {
        row: (example["start_positions"], example["end_positions"])
        for row, example in enumerate(data.split("validation"))
        if example["start_positions"]
    }
    logits = certain(data, "validation", right)
    assert data.score.answers("validation", logits) == ["9 bad dog", "cat is"]
    assert data.score("validation", logits) == {"f1": 100, "exact_match": 100}
    short = len(data.split("validation")) - 1
    begin = data.score.windows["validation"][short].first
    wrong = certain(data, "validation", right | {short: (begin, begin + 3)})
    assert data.score("validation", wrong) == {"f1": pytest.approx(50 + 50 * 0.8), "exact_match": 50}  # "cat is good"


def test_version_2_answers_nothing_where_the_first_token_wins(tmp_path: Path, checkpoint: str) -> None:
    rows = [("cat film", asked("cat film", "a dog")), ("the cat", asked("the cat", "the film", "cat"))]
    folder = write(tmp_path, rows * 5, rows)
    with pytest.raises(DataError, match=r'version = "2\.0"'):
        task(folder).load(checkpoint)
    data = task(folder, version="2.0").load(checkpoint)
    begin = data.score.windows["validation"][1].first
    sure = certain(data, "validation", {0: (0, 0), 1: (begin + 1, begin + 1)})
    assert data.score.answers("validation", sure) == ["", "cat"]
    assert data.score("validation", sure) == {"f1": 100, "exact_match": 100}
    eager = task(folder, version="2.0", null_threshold=100).load(checkpoint)
    assert eager.score("validation", sure)["exact_match"] == 50


@pytest.mark.parametrize(
    ("options", "said"),
    [({"stride": 30}, "set task.stride below 23"), ({"path": "nowhere"}, "there is no folder nowhere")],
)
def test_what_cannot_be_read_or_cut_is_one_clear_line(folder: str, checkpoint: str, options: dict, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Squad(**{"path": folder, "max_length": 90, "stride": 10} | options).load(checkpoint)


def test_a_file_in_another_form_is_named(tmp_path: Path, checkpoint: str) -> None:
    (tmp_path / "train.json").write_text('{"rows": []}')
    with pytest.raises(DataError, match=r"train\.json is not in SQuAD's form"):
        task(str(tmp_path)).load(checkpoint)


# --- the model --------------------------------------------------------------------------------------------------------


def test_windows_of_unlike_length_are_rated_as_each_by_itself(folder: str, long_checkpoint: str) -> None:
    squad = task(folder)
    data, model = squad.load(long_checkpoint), squad.load_model(long_checkpoint, "sdpa").eval()
    together = predict(model, data.split("validation"), data.collate, 64)
    alone = predict(model, data.split("validation"), data.collate, 1)
    for one, other, example in zip(*together, data.split("validation"), strict=False):
        assert np.isfinite(one[: len(example["input_ids"])]).all()
        assert other.shape == one.shape
    for one, other in zip(together, alone, strict=True):
        for row, example in enumerate(data.split("validation")):
            size = len(example["input_ids"])
            np.testing.assert_allclose(one[row, :size], other[row, :size], atol=1e-5)
    assert evaluate(model, data, "validation", 64) == evaluate(model, data, "validation", 1)


def test_the_model_has_a_start_and_an_end_and_learns_from_the_labels(folder: str, long_checkpoint: str) -> None:
    squad = task(folder)
    data, model = squad.load(long_checkpoint), squad.load_model(long_checkpoint, "sdpa")
    out = model(**data.collate(data.train[:3]))
    assert len(logits_of(out)) == 2
    assert float(out["loss"]) > 0
