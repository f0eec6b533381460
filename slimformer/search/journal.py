"""Who rates what: the ledger of a search that one process runs alone, and of one that several processes share."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from slimformer.errors import SearchError, SlimformerError, first_line
from slimformer.supernet.spec import SubnetSpec

T = TypeVar("T")


class Coordinator(Protocol):
    """Keeps track of the ratings of a search.

    Law: of all processes that claim a spec, at most one at a time succeeds.
    """

    def claim(self, spec: SubnetSpec) -> bool:
        """Whether this process is to rate the spec now."""
        ...

    def tell(self, spec: SubnetSpec, rating: float) -> None: ...

    def give_up(self, spec: SubnetSpec) -> None:
        """Take a claim back, the rating having failed."""
        ...

    def others(self) -> Mapping[SubnetSpec, float]:
        """What has been rated elsewhere."""
        ...

    def count(self) -> int:
        """How many specs have been rated or claimed, by anybody."""
        ...

    def wait(self) -> None:
        """Wait for the ratings that others are still making."""
        ...


@dataclass
class SingleProcess:
    """One process, which needs no agreement."""

    rated: dict[SubnetSpec, float] = field(default_factory=dict)

    def claim(self, spec: SubnetSpec) -> bool:
        return spec not in self.rated

    def tell(self, spec: SubnetSpec, rating: float) -> None:
        self.rated[spec] = rating

    def give_up(self, spec: SubnetSpec) -> None:
        return

    def others(self) -> Mapping[SubnetSpec, float]:
        return {}

    def count(self) -> int:
        return len(self.rated)

    def wait(self) -> None:
        return


PATIENCE = 300.0
"""Seconds after which a claim that nobody fulfilled counts as given up (its process has died)."""

POLL = 0.2
"""Seconds between two looks at the storage while waiting for others."""


class SharedJournal:
    """Several processes, or machines with a common file system, that share one search through an Optuna journal file.

    A claim is a trial: of several trials with the same spec the lowest number counts, which every process sees alike, as
    the journal is one sequence. What is rated is in the file and survives all processes; `optuna-dashboard` shows it.

    file: the journal, made if it is not there. study: the name of the search in it.
    about: what is searched (run, probe, limits); a study that searches something else is refused.
    Raises: SearchError where optuna is missing, the file cannot be used, or the study is another search's.
    """

    def __init__(self, file: Path, study: str, about: Mapping[str, Any], patience: float = PATIENCE) -> None:
        self._file = file
        self._patience = patience
        self._study = self._open(study)
        self._mine: dict[SubnetSpec, int] = {}
        self._agree(study, json.loads(json.dumps(about)))

    def _open(self, study: str) -> Any:
        try:
            import optuna
        except ImportError:
            raise SearchError("--storage needs optuna: pip install 'slimformer[search]'") from None
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        if not self._file.parent.is_dir():
            raise SearchError(f"there is no folder {self._file.parent}: give --storage a file in a folder that is there")
        if not _may_be_journal(self._file):
            raise SearchError(
                f"the storage file {self._file} cannot be used, as it is no journal of a search: "
                "give --storage a new file, or one that a search made"
            )

        def connect() -> Any:
            backend = JournalFileBackend(str(self._file), lock_obj=JournalFileOpenLock(str(self._file)))
            storage = optuna.storages.JournalStorage(backend)
            return optuna.create_study(study_name=study, storage=storage, direction="maximize", load_if_exists=True)

        return self._try(connect)

    def _agree(self, study: str, about: Any) -> None:
        """The first process writes down what is searched, the others compare."""
        known = self._try(lambda: self._study.user_attrs)
        if "about" not in known:
            self._try(lambda: self._study.set_user_attr("about", about))
            return
        other = sorted(key for key in about if known["about"].get(key) != about[key])
        if other:
            key = other[0]
            raise SearchError(
                f"study {study!r} in {self._file} is another search ({key}: {known['about'].get(key)}, not {about[key]}): "
                "give another --study"
            )

    def _try(self, act: Callable[[], T]) -> T:
        """Turn whatever the storage's libraries raise into one line."""
        if hasattr(self, "_study") and not self._file.is_file():
            raise SearchError(f"the storage {self._file} is gone; the ratings are kept in the run folder: start again")
        try:
            return act()
        except (OSError, ValueError, KeyError, RuntimeError, AssertionError) as error:
            what = str(error).strip().partition("\n")[0] or type(error).__name__
            raise SearchError(
                f"the storage {self._file} cannot be used ({what}); if a process died while it held {self._file}.lock, remove "
                "that file; no rating is lost"
            ) from error

    def _trials(self) -> dict[SubnetSpec, Any]:
        """The trial that counts for each spec: a finished one, else the first running one that is not too old."""
        from optuna.trial import TrialState

        found: dict[SubnetSpec, Any] = {}
        for trial in self._try(lambda: self._study.get_trials(deepcopy=False)):
            if trial.state not in (TrialState.COMPLETE, TrialState.RUNNING) or "spec" not in trial.user_attrs:
                continue
            spec = self._spec(trial)
            if trial.state == TrialState.RUNNING and self._is_stale(trial) and self._mine.get(spec) != trial.number:
                continue
            if spec not in found or (trial.state == TrialState.COMPLETE and found[spec].state != TrialState.COMPLETE):
                found[spec] = trial
        return found

    def _spec(self, trial: Any) -> SubnetSpec:
        """The spec of a trial, once its fields have the types that `claim` and `tell` write."""
        try:
            if trial.state.name == "COMPLETE" and math.isnan(trial.value):
                raise ValueError(f"the rating {trial.value}")
            float(trial.user_attrs["since"])
            return SubnetSpec.from_json(trial.user_attrs["spec"])
        except (ValueError, KeyError, TypeError, AttributeError, SlimformerError) as error:
            raise SearchError(
                f"the storage {self._file} holds a trial {trial.number} that no search wrote ({first_line(error)}): give --storage "
                "a new file; the ratings are kept in the run folder"
            ) from error

    def _is_stale(self, trial: Any) -> bool:
        return time.time() - float(trial.user_attrs["since"]) > self._patience

    def claim(self, spec: SubnetSpec) -> bool:
        from optuna.distributions import BaseDistribution
        from optuna.trial import FrozenTrial, TrialState

        if spec in self._trials():
            return False
        distributions: dict[str, BaseDistribution] = {}
        attributes = {"spec": spec.to_json(), "since": time.time()}
        template = FrozenTrial(
            number=-1, state=TrialState.RUNNING, value=None, datetime_start=None, datetime_complete=None, params={},
            distributions=distributions, user_attrs=attributes, system_attrs={}, intermediate_values={}, trial_id=-1,
        )  # fmt: skip
        study = self._study
        trial_id = self._try(lambda: study._storage.create_new_trial(study._study_id, template_trial=template))
        number = self._try(lambda: study._storage.get_trial_number_from_id(trial_id))
        self._mine[spec] = number
        if self._trials()[spec].number == number:
            return True
        del self._mine[spec]
        self._end(number, TrialState.PRUNED)
        return False

    def _end(self, number: int, state: Any, value: float | None = None) -> None:
        self._try(lambda: self._study.tell(number, value, state=state, skip_if_finished=True))

    def tell(self, spec: SubnetSpec, rating: float) -> None:
        from optuna.trial import TrialState

        self._end(self._mine[spec], TrialState.COMPLETE, rating)

    def give_up(self, spec: SubnetSpec) -> None:
        from optuna.trial import TrialState

        self._end(self._mine.pop(spec), TrialState.FAIL)

    def others(self) -> Mapping[SubnetSpec, float]:
        from optuna.trial import TrialState

        return {spec: trial.value for spec, trial in self._trials().items() if trial.state == TrialState.COMPLETE}

    def count(self) -> int:
        return len(self._trials())

    def wait(self) -> None:
        from optuna.trial import TrialState

        while any(trial.state == TrialState.RUNNING for trial in self._trials().values()):
            time.sleep(POLL)


_BEGIN = '{"op_code"'
"""The first characters of a journal, as optuna writes it."""


def _may_be_journal(file: Path) -> bool:
    """Whether a file is absent, empty, or begins with a line of a journal."""
    try:
        with file.open(encoding="utf-8") as lines:
            return _BEGIN.startswith(lines.read(len(_BEGIN)))
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
