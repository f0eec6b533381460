from __future__ import annotations

import gzip
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import f1_score, matthews_corrcoef

from slimformer.errors import CheckpointError, DataError
from slimformer.tasks import TASKS, Example, read
from slimformer_text.docstrings import Docstrings
from slimformer_text.glue import SUBSETS, Glue
from slimformer_text.text import METRICS, Goal, Rows, Score, split_off
from slimformer_text.text_files import TextFiles

OFFICIAL = {
    "cola": ("", "gj04\t{label}\t*\tthe cat is good"),
    "sst2": ("sentence\tlabel", "the cat is good\t{label}"),
    "mrpc": ("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", "{label}\t11\t12\tthe cat\ta dog"),
    "qqp": ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "1\t2\t3\tthe cat\ta dog\t{label}"),
    "stsb": ("index\tgenre\tsentence1\tsentence2\tscore", "0\tnews\tthe cat\ta dog\t{label}.5"),
    "mnli": ("index\tsentence1\tsentence2\tlabel1\tgold_label", "0\tthe cat\ta dog\tneutral\t{label}"),
    "qnli": ("index\tquestion\tsentence\tlabel", "0\tthe cat\ta dog\t{label}"),
    "rte": ("index\tsentence1\tsentence2\tlabel", "0\tthe cat\ta dog\t{label}"),
    "wnli": ("index\tsentence1\tsentence2\tlabel", "0\tthe cat\ta dog\t{label}"),
}
WORDED = {"mnli": ("entailment", "neutral"), "qnli": ("entailment", "not_entailment"), "rte": ("entailment", "not_entailment")}


def write(path: Path, *lines: str) -> str:
    """A text file, gzipped where its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def write_mrpc(folder: Path, lines: int = 20) -> str:
    header, row = OFFICIAL["mrpc"]
    for name in ("train", "dev"):
        write(folder / f"{name}.tsv", header, *(row.format(label=i % 2) for i in range(lines)))
    return str(folder)


def numbered(path: Path, count: int) -> str:
    """`count` different texts, so that an example can be told from another."""
    return write(path, "text,label", *(f"{' '.join(f'{i:03d}')} cat,{i % 2}" for i in range(count)))


def identities(examples: Sequence[Example]) -> set[tuple[int, ...]]:
    return {tuple(example["input_ids"]) for example in examples}


# --- formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subset", SUBSETS)
def test_each_glue_subset_is_read_in_its_official_format(subset: str, tmp_path: Path, checkpoint: str) -> None:
    header, row = OFFICIAL[subset]
    stems = ["train", *(names[0] for names in SUBSETS[subset].splits.values())]
    for stem in stems:
        labels = [WORDED.get(subset, ("0", "1"))[i % 2] for i in range(4)]
        write(tmp_path / f"{stem}.tsv", *([header] if header else []), *(row.format(label=label) for label in labels))
    data = Glue(subset, str(tmp_path)).load(checkpoint)
    assert list(data.evaluation) == list(SUBSETS[subset].splits)
    assert [example["labels"] for example in data.train] == ([0.5, 1.5] * 2 if subset == "stsb" else [0, 1] * 2)
    assert max(data.train[0]["token_type_ids"]) == (0 if subset in ("cola", "sst2") else 1)
    assert data.metric == SUBSETS[subset].metrics[0]


def test_a_folder_that_holds_the_subset_is_searched_whatever_the_case_and_dashes(tmp_path: Path, checkpoint: str) -> None:
    for name in ("train", "dev"):
        write(tmp_path / "sst_2" / f"{name}.tsv.gz", *OFFICIAL["sst2"][:1], "a cat\t1", "a dog\t0")
    assert len(Glue("sst2", str(tmp_path)).load(checkpoint).train) == 2


def test_local_files_may_have_the_hubs_names(tmp_path: Path, checkpoint: str) -> None:
    row = json.dumps({"sentence1": "a cat", "sentence2": "the cat", "label": 1, "idx": 0})
    write(tmp_path / "train-00000-of-00002.jsonl", row, row)
    write(tmp_path / "train-00001-of-00002.jsonl", row)
    write(tmp_path / "validation-00000-of-00001.jsonl", row)
    data = Glue("mrpc", str(tmp_path)).load(checkpoint)
    assert (len(data.train), len(data.evaluation["validation"])) == (3, 1)


def test_a_stray_quote_in_a_tsv_is_a_character(tmp_path: Path) -> None:
    file = write(tmp_path / "train.tsv", "sentence\tlabel", 'a "bad film\t0', 'a good" film\t1')
    assert read([Path(file)])["sentence"] == ['a "bad film', 'a good" film']


def test_a_quoted_comma_in_a_csv_stays_in_its_field(tmp_path: Path) -> None:
    file = write(tmp_path / "train.csv.gz", "text,label", '"bad, bad film",0')
    assert read([Path(file)]) == {"text": ["bad, bad film"], "label": ["0"]}


def test_words_that_pandas_takes_for_missing_values_are_kept(tmp_path: Path) -> None:
    file = write(tmp_path / "train.csv", "text,label", "null,0", "NA,1")
    assert read([Path(file)])["text"] == ["null", "NA"]


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".json"])
def test_json_is_read(ending: str, tmp_path: Path) -> None:
    rows = [{"text": "a cat", "label": "x"}, {"text": "a dog", "label": "y"}]
    lines = [json.dumps(rows)] if ending == ".json" else map(json.dumps, rows)
    assert read([Path(write(tmp_path / f"rows{ending}", *lines))]) == {"text": ["a cat", "a dog"], "label": ["x", "y"]}


def test_parquet_is_read(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["a cat", "a dog"], "label": [0, 1]}), tmp_path / "rows.parquet")
    assert read([tmp_path / "rows.parquet"]) == {"text": ["a cat", "a dog"], "label": [0, 1]}


def test_rows_of_glue_that_lack_a_field_are_left_out(tmp_path: Path, checkpoint: str) -> None:
    header, row = OFFICIAL["qqp"]
    for name in ("train", "dev"):
        write(tmp_path / f"{name}.tsv", header, row.format(label=1), "1\t2\t3\tthe cat")
    assert len(Glue("qqp", str(tmp_path)).load(checkpoint).train) == 1


# --- splits and examples ---------------------------------------------------------------------------------------------


def test_calibration_is_disjoint_from_train_and_from_evaluation(tmp_path: Path, checkpoint: str) -> None:
    data = TextFiles(numbered(tmp_path / "train.csv", 100)).load(checkpoint)
    parts = [identities(part) for part in (data.train, data.calibration, data.evaluation["validation"])]
    assert [len(part) for part in parts] == [81, 9, 10]
    assert len(set.union(*parts)) == 100


def test_calibration_is_at_most_a_tenth_of_train(tmp_path: Path, checkpoint: str) -> None:
    data = Glue("mrpc", write_mrpc(tmp_path, 50), calibration_size=512).load(checkpoint)
    assert (len(data.calibration), len(data.train), len(data.evaluation["validation"])) == (5, 45, 50)


def test_limits_take_the_same_random_part_each_time(tmp_path: Path, checkpoint: str) -> None:
    task = TextFiles(numbered(tmp_path / "train.csv", 100), max_train=20, max_eval=5)
    first, second = task.load(checkpoint), task.load(checkpoint)
    assert (len(first.train), len(first.evaluation["validation"])) == (20, 5)
    assert [first.split(name) for name in ("train", "calibration", "validation")] == [
        second.split(name) for name in ("train", "calibration", "validation")
    ]


def test_another_seed_takes_another_part() -> None:
    rows = Rows([(str(i),) for i in range(100)], list(range(100)))
    assert split_off(rows, 10, seed=0)[0].labels != split_off(rows, 10, seed=1)[0].labels


def test_max_length_truncates(tmp_path: Path, checkpoint: str) -> None:
    data = TextFiles(numbered(tmp_path / "train.csv", 20), max_length=4).load(checkpoint)
    assert {len(example["input_ids"]) for example in data.train} == {4}


def test_collate_pads_to_the_longest_and_labels_classes_as_long(tmp_path: Path, checkpoint: str) -> None:
    file = write(tmp_path / "train.csv", "text,label", *["a cat,x", "the good dog is bad,y"] * 5)
    data = TextFiles(file, validation=file, calibration_size=0).load(checkpoint)
    batch = data.collate(data.train[:2])
    assert batch["input_ids"].shape == (2, 7)
    assert batch["attention_mask"].tolist()[0] == [1, 1, 1, 1, 0, 0, 0]
    assert batch["labels"].dtype == torch.long


def test_a_batch_goes_through_the_loaded_model(tmp_path: Path, checkpoint: str) -> None:
    task = Glue("mrpc", write_mrpc(tmp_path))
    data = task.load(checkpoint)
    assert task.load_model(checkpoint, "sdpa")(**data.collate(data.train[:3])).loss.isfinite()


def test_regression_has_float_labels_and_one_output(tmp_path: Path, checkpoint: str) -> None:
    file = write(tmp_path / "train.csv", "text,label", *(f"a cat {i},{i / 2}" for i in range(10)))
    task = TextFiles(file, file, regression=True)
    data, model = task.load(checkpoint), task.load_model(checkpoint, "eager")
    batch = data.collate(data.train[:4])
    assert batch["labels"].dtype == torch.float32
    assert model(**batch).logits.shape == (4, 1)
    assert model.config.problem_type == "regression"
    assert data.metric == "spearman"


# --- heads -----------------------------------------------------------------------------------------------------------


def test_the_label_set_is_that_of_the_training_file_sorted(tmp_path: Path, checkpoint: str) -> None:
    file = write(tmp_path / "train.csv", "text,label", "a cat,good", "a dog,bad", "a film,fair")
    config = TextFiles(file).load_model(checkpoint, "sdpa").config
    assert config.id2label == {0: "bad", 1: "fair", 2: "good"}
    assert config.label2id == {"bad": 0, "fair": 1, "good": 2}


def test_numbered_labels_are_sorted_by_value(tmp_path: Path, checkpoint: str) -> None:
    file = write(tmp_path / "train.csv", "text,label", "a cat,10", "a dog,9", "a film,1")
    assert TextFiles(file).load_model(checkpoint, "sdpa").config.id2label == {0: "1", 1: "9", 2: "10"}


def test_a_head_of_the_right_size_is_kept(checkpoint: str) -> None:
    from transformers import AutoModelForSequenceClassification

    saved = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    assert torch.equal(Glue("rte").load_model(checkpoint, "sdpa").classifier.weight, saved.classifier.weight)


def test_a_head_of_another_size_is_new_and_the_body_is_kept(checkpoint: str) -> None:
    from transformers import AutoModelForSequenceClassification

    saved = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    model = Glue("mnli").load_model(checkpoint, "sdpa")
    assert model.classifier.weight.shape[0] == 3
    assert torch.equal(model.bert.pooler.dense.weight, saved.bert.pooler.dense.weight)


# --- metrics ---------------------------------------------------------------------------------------------------------

LABELS = np.array([1, 1, 1, 0, 0, 0, 1, 0])
GUESSES = np.array([1, 1, 0, 0, 0, 1, 1, 1])  # 3 true positives, 2 true negatives, 2 false positives, 1 false negative


def logits_of(classes: np.ndarray) -> np.ndarray:
    return np.eye(2)[classes]


def test_classification_metrics_are_those_counted_by_hand() -> None:
    score = Score({"validation": LABELS}, Goal(("no", "yes"), ("accuracy", "f1", "matthews")))
    metrics = score("validation", (logits_of(GUESSES),))
    assert metrics["accuracy"] == 62.5
    assert metrics["f1"] == pytest.approx(100 * 6 / 9)
    assert metrics["matthews"] == pytest.approx(100 * (3 * 2 - 2 * 1) / np.sqrt(5 * 4 * 4 * 3))


def test_classification_metrics_agree_with_sklearn() -> None:
    assert METRICS["f1"](LABELS, GUESSES) == f1_score(LABELS, GUESSES)
    assert METRICS["f1_macro"](LABELS, GUESSES) == f1_score(LABELS, GUESSES, average="macro")
    assert METRICS["matthews"](LABELS, GUESSES) == matthews_corrcoef(LABELS, GUESSES)


def test_regression_metrics_agree_with_scipy_and_with_a_rank_swap_counted_by_hand() -> None:
    labels, guesses = np.array([0.0, 1.0, 2.0, 5.0]), np.array([0.1, 3.0, 2.0, 9.0])
    metrics = Score({"validation": labels}, Goal((), ("spearman", "pearson")))("validation", (guesses[:, None],))
    assert metrics["spearman"] == pytest.approx(100 * (1 - 6 * 2 / (4 * 15)))
    assert metrics["spearman"] == pytest.approx(100 * spearmanr(labels, guesses).statistic)
    assert metrics["pearson"] == pytest.approx(100 * pearsonr(labels, guesses).statistic)


def test_the_correlation_of_a_constant_is_zero() -> None:
    score = Score({"validation": [0.0, 1.0, 2.0]}, Goal((), ("spearman", "pearson")))
    assert score("validation", (np.ones((3, 1)),)) == {"spearman": 0.0, "pearson": 0.0}


def test_logits_of_another_number_of_examples_are_an_error() -> None:
    with pytest.raises(DataError, match="has 8 examples, but logits of 3"):
        Score({"validation": LABELS}, Goal(("no", "yes"), ("accuracy",)))("validation", (np.zeros((3, 2)),))


def test_baselines_are_the_majority_and_a_bag_of_words(tmp_path: Path, checkpoint: str) -> None:
    file = write(tmp_path / "train.csv", "text,label", *["good cat,yes", "bad dog,no", "good film,yes", "good dog,yes"] * 5)
    data = TextFiles(file, file, calibration_size=0, baselines=True).load(checkpoint)
    assert dict(data.baselines) == {"most frequent class": {"accuracy": 75.0}, "bag of words": {"accuracy": 100.0}}


def test_baselines_of_a_regression_are_the_mean_and_a_bag_of_words(tmp_path: Path, checkpoint: str) -> None:
    file = write(tmp_path / "train.csv", "text,label", *["good cat,2.5", "bad dog,0", "bad good,1"] * 5)
    data = TextFiles(file, file, regression=True, calibration_size=0, baselines=True).load(checkpoint)
    assert data.baselines["mean label"] == {"spearman": 0.0}
    assert data.baselines["bag of words"]["spearman"] == pytest.approx(100)


def test_baselines_are_off_unless_asked_for(tmp_path: Path, checkpoint: str) -> None:
    assert dict(TextFiles(numbered(tmp_path / "train.csv", 20)).load(checkpoint).baselines) == {}


# --- errors ----------------------------------------------------------------------------------------------------------


def error_of(task: object, checkpoint: str) -> str:
    with pytest.raises(DataError) as caught:
        task.load(checkpoint)  # type: ignore[attr-defined]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_column_names_those_there_are(tmp_path: Path, checkpoint: str) -> None:
    file = write(tmp_path / "train.csv", "sentence,label", "a cat,1")
    assert "has no column 'text'; its columns are: sentence, label" in error_of(TextFiles(file), checkpoint)


def test_a_hub_out_of_reach_says_what_to_do_instead(checkpoint: str) -> None:
    message = error_of(Glue("mrpc"), checkpoint)
    assert "--set task.path=FOLDER" in message
    assert "recipes/quickstart.toml" in message


def test_an_unknown_subset_names_the_nearest(checkpoint: str) -> None:
    assert "Did you mean 'stsb'?" in error_of(Glue("STS-B"), checkpoint)


def test_a_missing_split_file_is_named(tmp_path: Path, checkpoint: str) -> None:
    write(tmp_path / "train.tsv", "sentence\tlabel", "a cat\t1")
    assert "has no file dev.tsv" in error_of(Glue("sst2", str(tmp_path)), checkpoint)


def test_a_missing_folder_is_named(tmp_path: Path, checkpoint: str) -> None:
    assert "there is no folder" in error_of(Glue("sst2", str(tmp_path / "none")), checkpoint)


def test_a_missing_text_file_is_named(tmp_path: Path, checkpoint: str) -> None:
    assert "there is no file or folder" in error_of(TextFiles(str(tmp_path / "none.csv")), checkpoint)


def test_an_unknown_kind_of_file_names_the_known_ones(tmp_path: Path, checkpoint: str) -> None:
    assert ".parquet" in error_of(TextFiles(write(tmp_path / "rows.xlsx", "x")), checkpoint)


@pytest.mark.parametrize("lines", [(), ("text,label",)])
def test_an_empty_file_is_an_error(lines: tuple[str, ...], tmp_path: Path, checkpoint: str) -> None:
    assert "has no rows" in error_of(TextFiles(write(tmp_path / "train.csv", *lines)), checkpoint)


def test_a_label_outside_the_label_set_is_named(tmp_path: Path, checkpoint: str) -> None:
    train = write(tmp_path / "train.csv", "text,label", "a cat,yes", "a dog,no")
    validation = write(tmp_path / "dev.csv", "text,label", "a cat,maybe")
    assert "the label 'maybe', which is not one of: no, yes" in error_of(TextFiles(train, validation), checkpoint)


def test_a_glue_file_of_incomplete_rows_is_an_error(tmp_path: Path, checkpoint: str) -> None:
    write(tmp_path / "train.tsv", "gj04\t1", "gj04\t0")
    assert "has no row with all of: sentence, label" in error_of(Glue("cola", str(tmp_path)), checkpoint)


def test_a_word_among_the_numbers_of_a_regression_is_named(tmp_path: Path, checkpoint: str) -> None:
    file = write(tmp_path / "train.csv", "text,label", "a cat,1.5", "a dog,much")
    assert "'much'" in error_of(TextFiles(file, regression=True), checkpoint)


def test_an_empty_field_names_its_row(tmp_path: Path, checkpoint: str) -> None:
    file = write(tmp_path / "train.jsonl", '{"text": "a cat", "label": "x"}', '{"text": "a dog", "label": null}')
    assert f"row 2 of {file} has no 'label'" in error_of(TextFiles(file), checkpoint)


def test_a_metric_of_the_wrong_kind_is_an_error(tmp_path: Path, checkpoint: str) -> None:
    message = error_of(TextFiles(numbered(tmp_path / "train.csv", 20), metric="pearson"), checkpoint)
    assert "classification has no metric 'pearson'; there are: accuracy, f1, f1_macro, matthews" in message


def test_a_folder_without_a_tokenizer_is_an_error(tmp_path: Path, checkpoint: str) -> None:
    shutil.copy(Path(checkpoint) / "config.json", tmp_path)
    file = numbered(tmp_path / "train.csv", 20)
    with pytest.raises(CheckpointError, match="tokenizer"):
        TextFiles(file).load(str(tmp_path))


def test_unreadable_weights_are_an_error(tmp_path: Path, checkpoint: str) -> None:
    shutil.copy(Path(checkpoint) / "config.json", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match="cannot load a model"):
        Glue().load_model(str(tmp_path), "sdpa")


def test_weights_that_do_not_fill_the_body_are_an_error(tmp_path: Path, checkpoint: str) -> None:
    config = json.loads((Path(checkpoint) / "config.json").read_text()) | {"intermediate_size": 96}
    (tmp_path / "config.json").write_text(json.dumps(config))
    shutil.copy(Path(checkpoint) / "model.safetensors", tmp_path)
    with pytest.raises(CheckpointError, match="lack or misshape"):
        Glue().load_model(str(tmp_path), "sdpa")


# --- docstrings ------------------------------------------------------------------------------------------------------


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Two packages of thirty modules that fail when they are imported, with four docstrings each."""
    for library, noun in (("alphalib", "cat"), ("betalib", "dog")):
        for module in range(30):
            lines = [
                f'def f{i}():\n    """Return {noun} {word} of the {"x" * (module + 1)} film.\n\n    More."""'
                for i, word in enumerate(("good", "bad", "null"))
            ]
            write(
                tmp_path / library / f"m{module}.py",
                f'"""Is {library} the good {noun} {"y" * (module + 1)} or not?"""',
                *lines,
                "1 / 0",
            )
        write(tmp_path / library / "tests" / "test_m.py", '"""A test has many words but is left out."""')
    monkeypatch.syspath_prepend(str(tmp_path))
    return ("alphalib", "betalib")


def test_docstrings_of_a_module_are_never_in_both_train_and_validation(libraries: tuple[str, ...]) -> None:
    train, validation = Docstrings(libraries, max_train=100, max_eval=40).summaries()
    modules = [{(summary.library, summary.module) for summary in part} for part in (train, validation)]
    assert min(map(len, modules)) > 1
    assert modules[0].isdisjoint(modules[1])


def test_no_docstring_is_there_twice(libraries: tuple[str, ...]) -> None:
    train, validation = Docstrings(libraries, max_train=100, max_eval=40).summaries()
    texts = [summary.text for summary in train + validation]
    assert len(texts) == len(set(texts))


def test_docstrings_do_not_name_their_library(libraries: tuple[str, ...]) -> None:
    train, _ = Docstrings(libraries, max_train=100, max_eval=40).summaries()
    assert any(summary.text.startswith("Is it the good") for summary in train)
    assert not any("lib" in summary.text for summary in train)


def test_docstrings_of_tests_are_left_out(libraries: tuple[str, ...]) -> None:
    train, validation = Docstrings(libraries, max_train=1000, max_eval=40).summaries()
    assert not any("test" in summary.module for summary in train + validation)


def test_docstrings_are_the_same_at_each_call(libraries: tuple[str, ...]) -> None:
    task = Docstrings(libraries, max_train=60, max_eval=20)
    assert task.summaries() == task.summaries()


def test_docstrings_are_balanced_between_libraries(libraries: tuple[str, ...], checkpoint: str) -> None:
    data = Docstrings(libraries, max_train=100, max_eval=40, calibration_size=10).load(checkpoint)
    assert (len(data.train), len(data.calibration), len(data.evaluation["validation"])) == (100, 10, 40)
    assert [example["labels"] for example in data.evaluation["validation"]] == [0] * 20 + [1] * 20
    assert set(data.baselines) == {"most frequent class", "bag of words"}


def test_docstrings_do_not_import_the_library(libraries: tuple[str, ...]) -> None:
    Docstrings(libraries, max_train=100, max_eval=40).summaries()
    assert "alphalib" not in sys.modules


def test_a_library_that_is_not_installed_is_named(checkpoint: str) -> None:
    assert "'no_such_library' is not installed" in error_of(Docstrings(("no_such_library", "torch")), checkpoint)


def test_a_library_with_too_few_docstrings_for_train_is_named(libraries: tuple[str, ...], checkpoint: str) -> None:
    assert "'alphalib' has too few docstrings" in error_of(Docstrings(libraries, max_eval=1000), checkpoint)


@pytest.mark.parametrize("name", ["docstrings", "glue", "text_files"])
def test_the_tasks_are_registered(name: str) -> None:
    assert name in TASKS.names()


def test_batches_may_be_padded_to_the_greatest_length(tmp_path: Path, checkpoint: str) -> None:
    folder = write_mrpc(tmp_path)
    for wanted, task in ((24, Glue("mrpc", folder, max_length=24, pad_to_max_length=True)), (7, Glue("mrpc", folder))):
        data = task.load(checkpoint)
        batch = data.collate(data.train[:2])
        assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, wanted)
        assert int(batch["attention_mask"].sum()) == 14


def test_importance_may_read_all_evaluation_splits_one_after_the_other(tmp_path: Path, checkpoint: str) -> None:
    header, row = OFFICIAL["mnli"]
    for number, stem in enumerate(("train", "dev_matched", "dev_mismatched")):
        write(tmp_path / f"{stem}.tsv", header, *[row.format(label="neutral")] * (number + 1))
    data = Glue("mnli", str(tmp_path)).load(checkpoint)
    assert data.scoring_examples("evaluation") == [*data.split("validation_matched"), *data.split("validation_mismatched")]
    assert len(data.scoring_examples("evaluation")) == 5
    with pytest.raises(DataError, match="no split called 'dev'"):
        data.scoring_examples("dev")


@pytest.mark.parametrize("value", [["a", "b"], {"a": 1}])
@pytest.mark.parametrize("name", ["text", "label"])
def test_a_list_or_a_table_for_a_text_or_a_label_is_named(name: str, value: object, tmp_path: Path, checkpoint: str) -> None:
    rows = [{"text": "the cat", "label": "x"} | {name: value} for _ in range(4)]
    file = write(tmp_path / "t.jsonl", *map(json.dumps, rows))
    assert f"for '{name}'" in error_of(TextFiles(file), checkpoint)


def test_labels_that_differ_by_spaces_alone_are_named(tmp_path: Path, checkpoint: str) -> None:
    file = write(tmp_path / "t.csv", "text,label", "the cat,pos", "the dog,pos ", "a film,neg")
    assert "'pos' and 'pos '" in error_of(TextFiles(file), checkpoint)


def test_labels_with_fractions_are_no_classes(tmp_path: Path, checkpoint: str) -> None:
    file = write(tmp_path / "t.jsonl", *(json.dumps({"text": "the cat", "label": i / 4}) for i in range(8)))
    assert "regression = true" in error_of(TextFiles(file), checkpoint)


def test_labels_of_one_value_have_one_order(tmp_path: Path, checkpoint: str) -> None:
    file = write(tmp_path / "t.csv", "text,label", *("the cat,01", "the dog,1") * 10)
    assert TextFiles(file).load_model(checkpoint, "sdpa").config.id2label == {0: "01", 1: "1"}


def test_f1_is_of_the_class_that_is_called_positive(tmp_path: Path, checkpoint: str) -> None:
    file = write(tmp_path / "t.csv", "text,label", *("the cat,fraud", "the dog,ok") * 10)
    data = TextFiles(file, file, metric="f1", positive="fraud").load(checkpoint)
    assert data.score("validation", (np.tile([0.0, 1.0], (20, 1)),))["f1"] == 0
    assert data.score("validation", (np.tile([1.0, 0.0], (20, 1)),))["f1"] == pytest.approx(200 / 3)
    assert "is not one of the labels" in error_of(TextFiles(file, metric="f1", positive="fruad"), checkpoint)


def test_a_files_name_is_no_pattern(tmp_path: Path) -> None:
    write(tmp_path / "train1.csv", "text,label", "another,0")
    file = write(tmp_path / "train[1].csv", "text,label", "mine,1")
    assert read([Path(file)])["text"] == ["mine"]
