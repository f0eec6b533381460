"""Tasks: examples, the head of the model, and how predictions are scored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimformer.lazy import lazy_names

if TYPE_CHECKING:
    from slimformer.tasks.base import (
        TASKS as TASKS,
        Example as Example,
        Logits as Logits,
        Measure as Measure,
        Task as Task,
        TaskData as TaskData,
        at_most as at_most,
        keep_all as keep_all,
        split_off as split_off,
        unchanged as unchanged,
    )
    from slimformer.tasks.evaluation import (
        batches as batches,
        evaluate as evaluate,
        joined as joined,
        predict as predict,
        tokens_in as tokens_in,
    )
    from slimformer.tasks.files import (
        Table as Table,
        column as column,
        data_files as data_files,
        ending as ending,
        find_shards as find_shards,
        read as read,
    )

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "base": ["TASKS", "Example", "Logits", "Measure", "Task", "TaskData", "at_most", "keep_all", "split_off", "unchanged"],
        "evaluation": ["batches", "evaluate", "joined", "predict", "tokens_in"],
        "files": ["Table", "column", "data_files", "ending", "find_shards", "read"],
    },
)
