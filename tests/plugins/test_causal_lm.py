"""Language modelling: windows, perplexity and a whole run through the command line."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from transformers.models.auto.tokenization_auto import AutoTokenizer

from slimformer.errors import CheckpointError, DataError, RunError
from slimformer.tasks import evaluate
from slimformer_decoders.causal_lm import IGNORED, CausalLM, cut
from tests.test_end_to_end import one_line, slimformer

WORDS = ["<unk>", "<eos>", *"abcdefgh"]
TEXT = "a b c d e f g h " * 40


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a GPT-2 of three blocks and a tokenizer of one-letter words."""
    folder = tmp_path_factory.mktemp("gpt2")
    sizes = {"n_embd": 32, "n_head": 4, "n_layer": 3, "n_positions": 24, "vocab_size": 10, "bos_token_id": 1, "eos_token_id": 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2LMHeadModel(GPT2Config(**sizes, initializer_range=0.2)).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<eos>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    (folder / "train.txt").write_text(TEXT)
    (folder / "test.txt.gz").write_bytes(gzip.compress(TEXT[:220].encode()))
    return folder


def task(texts: Path, **options: Any) -> CausalLM:
    given = {"train": str(texts / "train.txt"), "test": str(texts / "test.txt.gz"), "window": 16} | options
    return CausalLM(**given)


@pytest.mark.parametrize(("window", "context"), [(5, 1), (5, 3), (50, 2), (2, 1)])
def test_each_token_but_the_first_is_predicted_once(window, context) -> None:
    tokens = list(range(100, 123))
    predicted = [label for example in cut(tokens, window, context) for label in example["labels"][1:] if label != IGNORED]
    assert predicted == tokens[1:]
    assert all(len(example["input_ids"]) <= window for example in cut(tokens, window, context))


def test_perplexity_is_that_of_the_whole_text(gpt2, texts) -> None:
    data = task(texts, window=20, context=7).load(str(gpt2))
    model: Any = task(texts).load_model(str(gpt2), "sdpa").eval()
    ids = torch.tensor([data.processor(TEXT[:220])["input_ids"]])
    losses = []
    for place in range(1, ids.shape[1]):  # one token at a time, from as much of the text as its window held
        start = 0 if place < 20 else 13 * ((place - 7) // 13)
        with torch.no_grad():
            scores = model(ids[:, start:place]).logits[0, -1]
        losses.append(float(-scores.log_softmax(-1)[ids[0, place]]))
    found = evaluate(model, data, "test", batch_size=3)
    assert found["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))


def test_a_model_that_diverged_has_no_perplexity(gpt2, texts) -> None:
    model: Any = task(texts).load_model(str(gpt2), "sdpa").eval()
    model.transformer.ln_f.weight.data.fill_(float("nan"))
    with pytest.raises(RunError, match="logits are nan, so nothing can be rated"):
        evaluate(model, task(texts).load(str(gpt2)), "test", 8)


def test_rows_of_a_table_are_texts_with_the_end_of_text_between_them(gpt2, tmp_path) -> None:
    (tmp_path / "train.jsonl").write_text("\n".join(json.dumps({"body": text}) for text in ("a b", "c", "d e f")))
    data = CausalLM(train=str(tmp_path), text="body", window=4, calibration_size=0).load(str(gpt2))
    windows = [*data.train, *data.evaluation["validation"]]
    assert sorted(example["input_ids"] for example in windows) == sorted([[2, 3, 1, 4], [4, 1, 5, 6], [6, 7]])
    joined = CausalLM(train=str(tmp_path), test=str(tmp_path), text="body", separator=" h ", window=24).load(str(gpt2))
    assert joined.evaluation["test"][0]["input_ids"] == [2, 3, 9, 4, 9, 5, 6, 7]


def test_a_data_set_of_the_hub_gives_the_splits_that_it_has(gpt2, monkeypatch) -> None:
    rows = {
        name: datasets.Dataset.from_dict({"text": text}) for name, text in (("train", ["a b", "c d e"]), ("test", ["h"] * 9))
    }
    monkeypatch.setattr(datasets, "load_dataset", lambda *names: datasets.DatasetDict(rows) if names == ("x/y", "z") else None)
    data = CausalLM(dataset="x/y", subset="z", separator=" ", window=4).load(str(gpt2))
    assert [example["input_ids"] for example in data.train] == [[2, 3, 4, 5], [5, 6]]
    assert [len(example["input_ids"]) for example in data.evaluation["test"]] == [4, 4, 3]


def test_new_weights_come_from_the_configuration_alone(gpt2, texts) -> None:
    new: Any = task(texts, config={"n_layer": 1}).load_model(f"new:{gpt2}", "eager")
    old: Any = task(texts).load_model(str(gpt2), "eager")
    assert len(new.transformer.h) == 1
    assert len(task(texts).load(f"new:{gpt2}").train) == len(task(texts).load(str(gpt2)).train)
    assert not torch.equal(new.transformer.wte.weight, old.transformer.wte.weight)


def test_weights_that_are_missing_are_not_drawn_at_random(gpt2, texts) -> None:
    with pytest.raises(CheckpointError, match="lack or misshape"):
        task(texts, config={"n_layer": 4}).load_model(str(gpt2), "eager")


@pytest.mark.parametrize(("options", "message"), [
    ({"train": ""}, "there is no text: give task.train"),
    ({"train": "nowhere.txt"}, "there is no file or folder nowhere.txt"),
    ({"test": "", "train": "recipe.txt"}, "the text fills one window of 16 tokens"),
    ({"window": 25}, "a window of at most 24 tokens"),
    ({"context": 16}, "a smaller context"),
    ({"config": {"layers": 2}}, "configuration of a 'gpt2' model has no 'layers'"),
])  # fmt: skip
def test_a_mistake_is_named(gpt2, texts, options, message, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.txt").write_text("a b c")
    with pytest.raises((DataError, CheckpointError), match=message):
        task(texts, **options).load(str(gpt2))


@pytest.fixture(scope="module")
def run(gpt2, texts, tmp_path_factory) -> Path:
    """A finished run; the recipe lies beside it."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "recipe.toml").write_text(f"""
name = "letters"
model = {{ checkpoint = {json.dumps(str(gpt2))} }}
task = {{ name = "causal_lm", train = {json.dumps(str(texts / "train.txt"))}, test = {json.dumps(str(texts / "test.txt.gz"))}, window = 16 }}
space = {{ width = [1.0, 0.5], depth = [1.0, 0.67] }}
finetune = {{ epochs = 6, learning_rate = 1e-2 }}
machine = {{ batch_size = 4, precision = "fp32", log_steps = 1 }}
evaluation = {{ workload = {{ batch_size = 1, length = 16 }} }}
[[stage]]
name = "both"
axes = ["width", "depth"]
terms = ["soft_cross_entropy", {{ name = "hidden_mse", weight = 0.1 }}]
training = {{ epochs = 8, learning_rate = 1e-2 }}
""")
    slimformer("run", "recipe.toml", "--quiet", cwd=folder)
    return folder


def test_distillation_lowers_the_perplexity_of_the_sub_networks(run) -> None:
    results = json.loads((run / "runs/letters/results.json").read_text())
    assert results["measures"]["perplexity"] == {"unit": "per token", "lower_is_better": True}
    smallest = results["rows"][-1]
    assert 1 <= results["teacher"]["test"]["perplexity"] < 2
    assert smallest["metrics"]["test"]["loss"] < math.log(smallest["snapshots"]["base"]) / 2


def test_where_less_is_better_tables_pictures_and_scores_say_so(run) -> None:
    again = slimformer("run", "recipe.toml", cwd=run).stdout
    assert "letters: perplexity on test, per token, lower is better" in " ".join(again.split())
    assert "per token, lower is better." in (run / "runs/letters/README.md").read_text()
    assert " per token\n" in slimformer("evaluate", "--subnet", "w0.5-d1", cwd=run).stdout
    assert (run / "runs/letters/pareto.png").stat().st_size > 10_000


def test_an_exported_sub_network_generates_without_slimformer(run, tmp_path) -> None:
    slimformer("export", "--subnet", "w1-d0.67", "--to", tmp_path / "small", cwd=run)
    small = AutoModelForCausalLM.from_pretrained(tmp_path / "small").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "small")
    said = small.generate(**tokenizer("a b c d", return_tensors="pt"), max_new_tokens=4, do_sample=False, pad_token_id=1)
    assert len(small.transformer.h) == 2
    assert tokenizer.decode(said[0]) == "a b c d e f g h"


def test_a_search_takes_the_lowest_perplexity(run) -> None:
    wanted = ("search", "--rate-by", "metric", "--probe", 0, "--max-ratings", 8, "--strategy", "random", "--json")
    found = json.loads(slimformer(*wanted, cwd=run).stdout)
    ratings = [row["rating"] for row in found["candidates"]]
    assert found["rating"].startswith("-perplexity on ")
    assert ratings == sorted(ratings, reverse=True)
    assert max(ratings) < 0
    cheap = json.loads(slimformer(*wanted, "--min-metric", -ratings[1], "--minimise", "params", cwd=run).stdout)
    assert cheap["winner"]["rating"] >= ratings[1]
    refused = slimformer(*wanted, "--min-metric", 0.5, "--minimise", "params", cwd=run, rc=3)
    assert "none of the rated sub-networks reaches 0.50 per token" in one_line(refused)
