"""Token classification: reading, first-piece labels, words and entities scored by seqeval's rules."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from slimformer.errors import DataError
from slimformer.tasks import evaluate, predict
from slimformer_text.entities import entities, entity_scores
from slimformer_text.token_files import IGNORED, Sentence, TokenFiles, _example

CONLL = """\
-DOCSTART- -X- O

the DT O
cat NN B-PER
dog NN I-PER
is VB O

good JJ B-LOC
film NN B-LOC
"""
NAMES = ("O", "B-LOC", "B-PER", "I-PER")


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "train.conll").write_text("\n".join([CONLL] * 10))
    return str(tmp_path / "train.conll")


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O B-PER I-PER O B-LOC", {(1, 2, "PER"), (4, 4, "LOC")}),
        ("B-PER B-PER", {(0, 0, "PER"), (1, 1, "PER")}),
        ("I-PER I-LOC I-LOC", {(0, 0, "PER"), (1, 2, "LOC")}),  # IOB1, or a prediction without a beginning
        ("B-PER I-LOC", {(0, 0, "PER"), (1, 1, "LOC")}),
        ("S-PER B-LOC I-LOC E-LOC I-LOC", {(0, 0, "PER"), (1, 3, "LOC"), (4, 4, "LOC")}),
        ("O O", set()),
    ],
)
def test_entities_are_those_of_seqeval(tags: str, found: set) -> None:
    assert entities(tags.split()) == found


def test_an_entity_is_right_if_its_ends_and_its_type_are() -> None:
    gold = [["B-PER", "I-PER", "O"], ["B-LOC", "O", "B-PER"]]
    predicted = [["B-PER", "O", "O"], ["B-LOC", "B-LOC", "B-PER"]]  # 4 found, 3 wanted, 2 right
    assert entity_scores(gold, predicted) == {
        "f1": pytest.approx(2 * 0.5 * (2 / 3) / (0.5 + 2 / 3)), "precision": 0.5, "recall": pytest.approx(2 / 3),
    }  # fmt: skip
    assert entity_scores(gold, [["O"] * 3] * 2) == {"f1": 0, "precision": 0, "recall": 0}


def test_conll_files_and_tables_give_the_same_sentences(file: str, tmp_path: Path) -> None:
    wanted = [
        Sentence(("the", "cat", "dog", "is"), ("O", "B-PER", "I-PER", "O")),
        Sentence(("good", "film"), ("B-LOC", "B-LOC")),
    ]
    assert TokenFiles(file)._sentences(file) == wanted * 10
    packed = tmp_path / "train.txt.gz"
    packed.write_bytes(gzip.compress(CONLL.encode()))
    assert TokenFiles(file)._sentences(str(packed)) == wanted
    for name, tags in (("words.jsonl", lambda s: list(s.tags)), ("numbers.jsonl", lambda s: [NAMES.index(t) for t in s.tags])):
        rows = [json.dumps({"tokens": list(s.words), "tags": tags(s)}) for s in wanted]
        (tmp_path / name).write_text("\n".join(rows))
        assert TokenFiles(file, tag_names=NAMES)._sentences(str(tmp_path / name)) == wanted


def test_the_first_piece_of_a_word_has_its_tag_and_nothing_else_is_judged(file: str, checkpoint: str) -> None:
    data = TokenFiles(file).load(checkpoint)
    sentence = Sentence(('cat"dog', "is"), ("B-PER", "O"))  # three pieces and one
    example = _example(data.processor, sentence, {name: i for i, name in enumerate(NAMES)}, 20)
    assert example["labels"] == [IGNORED, 2, IGNORED, IGNORED, 0, IGNORED]
    batch = data.collate([example, _example(data.processor, Sentence(("cat",), ("O",)), {"O": 0}, 20)])
    assert batch["labels"].tolist()[1] == [IGNORED, 0, IGNORED, IGNORED, IGNORED, IGNORED]


def test_predictions_are_mapped_back_to_words_and_lost_words_count_as_outside(file: str, checkpoint: str) -> None:
    data = TokenFiles(file, max_length=5).load(checkpoint)  # three words of four
    split = data.split("validation")
    logits = np.full((len(split), 5, len(NAMES)), np.nan)
    for row, example in enumerate(split):
        for index, label in enumerate(example["labels"]):
            logits[row, index] = np.eye(len(NAMES))[max(0, label)]
    assert data.score("validation", (logits,)) == {"f1": 100, "precision": 100, "recall": 100, "accuracy": 100}
    short = TokenFiles(file, max_length=4).load(checkpoint)  # the entity's second word is lost, and with it the entity
    found = short.score.tags("validation", (logits,))
    assert {tuple(tags) for tags in found} <= {("O", "B-PER", "O", "O"), ("B-LOC", "B-LOC")}


def test_the_model_has_a_class_for_each_tag_and_batches_do_not_matter(file: str, checkpoint: str) -> None:
    task = TokenFiles(file)
    data, model = task.load(checkpoint), task.load_model(checkpoint, "sdpa").eval()
    assert [model.config.id2label[i] for i in range(4)] == list(NAMES)
    assert float(model(**data.collate(data.train[:3])).loss) > 0
    assert evaluate(model, data, "train", 64) == evaluate(model, data, "train", 1)
    assert predict(model, data.train, data.collate, 4)[0].shape == (len(data.train), 6, 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [("the\n", r"bad\.conll:1: a word without a tag"), ("\n", "has no sentence"), ("the O\ncat O\n", "has one tag only, 'O'")],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, checkpoint: str, text: str, said: str) -> None:
    (tmp_path / "bad.conll").write_text(text)
    with pytest.raises(DataError, match=said):
        TokenFiles(str(tmp_path / "bad.conll")).load(checkpoint)


def test_numbers_for_tags_need_names(tmp_path: Path, checkpoint: str) -> None:
    (tmp_path / "train.jsonl").write_text('{"tokens": ["cat"], "tags": [1]}\n')
    with pytest.raises(DataError, match=r"write task\.tag_names ="):
        TokenFiles(str(tmp_path / "train.jsonl")).load(checkpoint)
