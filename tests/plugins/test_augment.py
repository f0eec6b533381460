"""Data augmentation: which words are replaced and by what, the file, its resumption, and training on it."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from slimformer.cli import app as cli
from slimformer.errors import CheckpointError, DataError
from slimformer_dynabert import augment as augmenting
from slimformer_dynabert.augment import Job, augment
from slimformer_dynabert.augmentation import Augmentation, Choice, MaskedLM, Word, WordVectors, choices, variants
from slimformer_text.text import Rows
from slimformer_text.text_files import TextFiles
from tests.conftest import build_tiny
from tests.tiny import Silent

PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "the",
    "is",
    "cat",
    "dog",
    "film",
    "good",
    "bad",
    "un",
    "##seen",
    "!",
]


@pytest.fixture(scope="module")
def masked_lm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a masked LM of a few word pieces: "unseen" has two."""
    folder = str(tmp_path_factory.mktemp("masked_lm"))
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    build_tiny("Bert", "ForMaskedLM", vocab_size=len(PIECES)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("vectors") / "vectors.txt"
    file.write_text("4 2\nhidden 1 0\nunseen 1 0.1\nopen -1 0\nsecret 1 0.3\n")
    return file


@pytest.fixture
def job(masked_lm: str) -> Job:
    """Pairs of sentences, every other one learnt."""
    rows = Rows([("the cat is good!", f"a film is {word}") for word in ("bad", "good", "unseen") * 14], [0, 1] * 21)
    return Job(rows, range(0, 42, 2), masked_lm, None, Augmentation(repeats=4, candidates=3), batch_size=8)


def test_words_of_one_piece_get_what_the_model_predicts_there_and_other_words_their_neighbours(masked_lm, vectors):
    lm, text = MaskedLM.load(masked_lm), "The Unseen cat is good!"
    found = choices([text], lm, WordVectors.read(vectors), Augmentation(repeats=1, candidates=2), batch=4)[0]
    assert [text[choice.word.start : choice.word.end] for choice in found] == ["Unseen", "cat", "good"]
    assert set(lm.whole_words.values()) == {piece for piece in PIECES if piece.isalpha()}
    assert found[0].candidates == ("Hidden", "Secret")
    ids = lm.tokenizer(text.replace("cat", "[MASK]"), return_tensors="pt")
    logits = lm.model(**ids).logits[0, 4]
    words = [i for i, piece in enumerate(PIECES) if piece.isalpha()]
    best = sorted(words, key=lambda i: -logits[i])[:2]
    assert found[1].candidates == tuple(PIECES[i] for i in best)


def test_without_vectors_words_of_several_pieces_stay(masked_lm):
    found = choices(["unseen cat"], MaskedLM.load(masked_lm), None, Augmentation(repeats=1), batch=4)[0]
    assert [choice.word.start for choice in found] == [7]


def test_beside_the_original_the_model_reads_both_texts(masked_lm):
    lm = MaskedLM.load(masked_lm)
    (word,) = lm.words("the cat")
    assert lm.tokenizer.convert_ids_to_tokens(lm.masked("the cat", word, True)["input_ids"]) == [
        "[CLS]", "the", "[MASK]", "[SEP]", "the", "cat", "[SEP]",
    ]  # fmt: skip


def test_a_word_is_replaced_with_the_given_probability_and_no_variant_comes_twice():
    chosen = [Choice(Word(4 * i, 4 * i + 3, (i,)), ("xx", "yy", "zz")) for i in range(4)]
    text = "aaa bbb ccc ddd"
    some = variants(text, chosen, Augmentation(repeats=300, probability=0.25), random.Random(0))
    assert len(set(some)) == len(some) < 300
    assert text not in some
    every = variants(text, chosen, Augmentation(repeats=5, probability=1.0), random.Random(0))
    assert all(word in ("xx", "yy", "zz") for variant in every for word in variant.split())
    assert variants(text, chosen, Augmentation(repeats=5, probability=0.0), random.Random(0)) == []


def test_one_text_of_a_pair_is_varied_at_a_time_and_the_label_stays(job, tmp_path):
    found = augment(job, tmp_path / "out.jsonl", Silent())
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert found == {"rows": 21, "written": len(lines), "masked_lm": 21 * 3 + 14, "vectors": 0, "none": 7}
    assert [line["source"] for line in lines] == sorted(line["source"] for line in lines)
    assert {line["source"] for line in lines} == set(job.learnt)
    for line in lines:
        texts = job.rows.texts[line["source"]]
        assert sum(one != other for one, other in zip(texts, line["texts"], strict=True)) == 1
        assert line["label"] == job.rows.labels[line["source"]]


def test_stopped_and_started_again_it_writes_the_same_bytes(job, tmp_path, monkeypatch):
    monkeypatch.setattr(augmenting, "CHUNK", 5)
    augment(job, tmp_path / "whole.jsonl", Silent())

    def stop(stage, step, logs):
        if step == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        augment(job, tmp_path / "out.jsonl", SimpleNamespace(begin=Silent().begin, advance=stop, end=Silent().end))
    begun = tmp_path / ".out.jsonl.begun"
    begun.write_text(begun.read_text()[:-40])  # a crash in the middle of a line
    seen: list[int] = []
    watcher = SimpleNamespace(begin=lambda stage, done, total: seen.append(done), advance=Silent().advance, end=Silent().end)
    augment(job, tmp_path / "out.jsonl", watcher)
    assert seen == [5]
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {"out.jsonl", "whole.jsonl"}


def test_a_job_with_other_settings_does_not_go_on_with_what_was_begun(job, tmp_path):
    (tmp_path / ".out.jsonl.begun").write_text(json.dumps(job.settings | {"seed": 7}) + "\n")
    with pytest.raises(DataError, match=r"was begun with other settings \(seed\): remove it"):
        augment(job, tmp_path / "out.jsonl", Silent())


@pytest.mark.parametrize(
    ("checkpoint_of", "said"),
    [
        (lambda head, masked: head, "has no trained masked-LM head"),
        (lambda head, masked: "./nowhere", "cannot load a masked LM"),
    ],
)
def test_a_checkpoint_without_the_head_is_refused(checkpoint_of: Callable[..., str], said, checkpoint, masked_lm):
    with pytest.raises(CheckpointError, match=said):
        MaskedLM.load(checkpoint_of(checkpoint, masked_lm))


def test_a_file_that_holds_no_vectors_is_refused(tmp_path):
    (tmp_path / "v.txt").write_text("the cat is good\n")
    with pytest.raises(DataError, match="no word vectors can be read from"):
        WordVectors.read(tmp_path / "v.txt")


# --- the command and the task ----------------------------------------------------------------------------------------


@pytest.fixture
def recipe(tmp_path: Path, masked_lm: str) -> Path:
    lines = [f"the cat is {word},{word == 'good'}" for word in ("good", "bad") * 20]
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *lines, ""]))
    (tmp_path / "recipe.toml").write_text(f"""
name = "tiny"
[model]
checkpoint = {json.dumps(masked_lm)}
[task]
name = "text_files"
train = "train.csv"
validation = "train.csv"
[space]
width = [1.0, 0.5]
[finetune]
max_steps = 1
[importance]
scorer = "magnitude"
[[stage]]
name = "width"
axes = ["width"]
examples = "augmented"
terms = ["soft_cross_entropy"]
training = {{ epochs = 1 }}
[machine]
precision = "fp32"
log_steps = 1
[evaluation]
snapshots = []
workload = {{ length = 8 }}
""")
    return tmp_path / "recipe.toml"


def call(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: Any) -> int:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["slimformer", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_a_stage_trains_on_what_the_command_wrote(recipe, tmp_path, monkeypatch, capsys):
    options = ("--repeats", 3, "--set", "seed=1", "--json", "--quiet")
    assert call(monkeypatch, tmp_path, "augment", recipe, "--to", "more.jsonl", *options) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 36
    assert call(monkeypatch, tmp_path, "run", recipe, "--set", "task.augmented=more.jsonl", "--quiet") == 0
    logged = [json.loads(line) for line in (tmp_path / "runs/tiny/metrics.jsonl").read_text().splitlines()]
    assert logged[-1]["step"] == -(-(36 + found["written"]) // 32) > 2
    capsys.readouterr()
    assert call(monkeypatch, tmp_path, "augment", recipe, "--to", "more.jsonl") == 2
    assert capsys.readouterr().err == "slimformer: more.jsonl exists: remove it, or give another file with --to\n"


def test_a_stage_that_asks_for_examples_which_the_task_lacks_is_told_so_before_training(recipe, tmp_path, monkeypatch, capsys):
    assert call(monkeypatch, tmp_path, "run", recipe, "--quiet") == 2
    assert "the task has no split called 'augmented'; there are: train" in capsys.readouterr().err
    assert not (tmp_path / "runs/tiny/metrics.jsonl").exists()


def test_a_task_without_texts_to_vary_names_those_that_have_some(recipe, tmp_path, monkeypatch, capsys):
    quick = Path(__file__).parents[2] / "recipes" / "quickstart.toml"
    assert call(monkeypatch, tmp_path, "augment", quick, "--to", "x.jsonl") == 2
    assert "task 'docstrings' has no texts to vary; tasks that have some: glue, text_files" in capsys.readouterr().err


def test_variants_of_what_is_held_out_or_left_out_are_not_learnt(recipe, tmp_path, masked_lm, monkeypatch):
    lines = [json.dumps({"source": i, "texts": [f"a dog {i}"], "label": (i + 1) % 2}) for i in range(40)]
    (tmp_path / "more.jsonl").write_text("\n".join(lines))
    file = str(tmp_path / "train.csv")
    task = TextFiles(file, file, max_train=10, augmented=str(tmp_path / "more.jsonl"))
    data = task.load(masked_lm)
    assert (len(data.train), len(data.split("augmented"))) == (10, 20)
    batch = data.collate([data.split("augmented")[i] for i in (0, 19)])
    assert batch["labels"].dtype == torch.long


def test_a_file_made_from_other_rows_is_refused(recipe, tmp_path, masked_lm):
    (tmp_path / "more.jsonl").write_text(json.dumps({"source": 1, "texts": ["a dog"], "label": 1}))
    file = str(tmp_path / "train.csv")
    with pytest.raises(DataError, match=r"more.jsonl was made from other training rows \(line 1 does not fit row 1\)"):
        TextFiles(file, file, augmented=str(tmp_path / "more.jsonl")).load(masked_lm)
