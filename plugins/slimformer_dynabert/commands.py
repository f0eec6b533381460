"""The commands that DynaBERT adds to `slimformer`; torch is imported only when one of them computes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from slimformer.commandline import JsonOption, SetOption, quiet_libraries, show
from slimformer.errors import DataError


def augment(
    recipe: Annotated[Path, typer.Argument(help="A recipe with a text task, e.g. recipes/dynabert_glue.toml.")],
    to: Annotated[Path, typer.Option("--to", help="The file to write, e.g. augmented.jsonl.")],
    overrides: SetOption = [],  # noqa: B006
    masked_lm: Annotated[
        str, typer.Option(help="A checkpoint with a masked-LM head; by default the recipe's, e.g. bert-base-uncased.")
    ] = "",
    vectors: Annotated[
        Path | None,
        typer.Option(help="Word vectors such as GloVe's, for words of several pieces; without, these words stay as they are."),
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=0, help="Attempts for each text; 0: the task's own number (GLUE: 10 to 30, by subset).")
    ] = 0,
    probability: Annotated[float, typer.Option(min=0, max=1, help="With which a word is replaced.")] = 0.4,
    candidates: Annotated[int, typer.Option(min=1, help="Words from which a replacement is drawn.")] = 15,
    beside_original: Annotated[
        bool, typer.Option("--beside-original", help="Show the masked LM the untouched text too, as TinyBERT's code does.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts that the masked LM reads at a time.")] = 32,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Vary a task's training texts by a masked language model and word vectors, as DynaBERT's data augmentation does.

    A recipe trains on the file with [bold]--set task.augmented=FILE[/] where a stage says [bold]examples = "augmented"[/]
    (recipes/dynabert_glue_augmented.toml). Stopped, the same command goes on and writes the same file.
    """
    from slimformer.recipe_file import read_recipe
    from slimformer.task import TASKS
    from slimformer_dynabert.tasks.text import Augmentable, held_out_and_learnt, limits_of

    parsed = read_recipe(recipe, overrides)
    task = parsed.task
    if not isinstance(task, Augmentable):
        names = ", ".join(name for name, cls in TASKS if issubclass(cls, Augmentable))
        raise DataError(f"task {TASKS.name_of(task)!r} has no texts to vary; tasks that have some: {names}")
    from slimformer import checkpoint
    from slimformer.console import ConsoleReport
    from slimformer_dynabert.augment import Job
    from slimformer_dynabert.augment import augment as augment_rows
    from slimformer_dynabert.augmentation import Augmentation

    quiet_libraries()
    rows = task.training_rows()
    source = masked_lm or checkpoint.resolve(parsed.model.checkpoint, parsed.model.fallback, parsed.model.sha256)
    how = Augmentation(repeats or task.repeats(), probability, candidates, beside_original, seed)
    job = Job(rows, held_out_and_learnt(len(rows), limits_of(task))[1], source, vectors, how, batch_size)
    found = augment_rows(job, to, ConsoleReport(quiet=quiet))
    show({"file": str(to)} | found, as_json, lambda: _augmented(found, to, vectors))


def _augmented(found: dict[str, Any], to: Path, vectors: Path | None) -> list[str]:
    words = found["masked_lm"] + found["vectors"] + found["none"]
    lines = [
        f"{found['written']} variants of {found['rows']} examples are in {to}",
        f"of {words} words {found['masked_lm']} got candidates from the masked LM, {found['vectors']} from word vectors; "
        f"{found['none']} stay as they are",
    ]
    return lines if vectors else [*lines, "words of several pieces were left alone: give word vectors with --vectors"]
