"""Runs one training stage: a thin subclass of transformers' `Trainer` around the elastic step.

Launchers, mixed precision, gradient accumulation, checkpoints, exact resume and trackers are the Trainer's. Ours are the
step itself and one all-reduce of the super-network's gradients after a step's last backward pass: live sub-networks
have parameters of their own, which DistributedDataParallel would never see.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks
from transformers.trainer_pt_utils import LengthGroupedSampler

from slimformer.axes.space import Space
from slimformer.distillation.samplers import Sampler
from slimformer.errors import DataError, InterruptedRunError, RunError
from slimformer.progress import Progress
from slimformer.tasks.base import TaskData
from slimformer.training.checkpointing import PARTIAL, STATE, is_complete, last_checkpoint, publish
from slimformer.training.options import Machine, Optimisation, Precision
from slimformer.training.step import ElasticStep


def native_bf16() -> bool:
    """Whether this machine multiplies bf16 matrices natively: a GPU that does, or a CPU with AMX or AVX-512 BF16."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def resolve_precision(precision: Precision) -> Precision:
    if precision == "auto":
        return "bf16" if native_bf16() else "fp32"
    return precision


@dataclass(frozen=True)
class Job:
    """One stage of training, apart from where and on what it runs.

    space: what is elastic. sampler: which of its sub-networks each step runs. seed: of the examples' order, of dropout and
    of the sampler.
    """

    name: str
    step: ElasticStep
    space: Space
    sampler: Sampler
    training: Optimisation
    seed: int


def run_stage(job: Job, data: TaskData, machine: Machine, folder: Path, progress: Progress) -> None:
    """Train the job's super-network in place; go on from the last checkpoint in `folder` if there is one.

    Law: stopped at any moment and started again, it ends with the weights of an uninterrupted run, bit for bit (same
    machine, same number of threads and processes).

    Raises: InterruptedRunError after SIGINT or SIGTERM, a checkpoint being written; RunError where a checkpoint cannot be
    written or read; DataError for batches of like length where examples have none.
    """
    if machine.group_by_length and "input_ids" not in data.train[0]:
        raise DataError("the examples of this task are all of one length: remove machine.group_by_length")
    watcher = _Watcher(job.name, progress)
    with _soft_interrupt(watcher), _kept_use_cache(job.step.supernet.model):
        try:
            trainer = ElasticTrainer(job, data, _arguments(job, machine, folder), watcher)
            checkpoint = last_checkpoint(folder)
            if checkpoint is not None and is_complete(checkpoint):
                trainer.read_weights_(checkpoint)
            else:
                trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        except Exception as error:
            if not _is_about_files(error):
                raise
            raise RunError(
                f"stage {job.name!r} could not write or read a file: {error}; once it can, the same command goes on "
                f"from the last checkpoint in {folder}"
            ) from error
        finally:
            progress.end(job.name)
    job.step.supernet.release_gradients_()
    if watcher.stopped or trainer.any_process(watcher.asked):
        raise InterruptedRunError(
            f"stopped in stage {job.name!r} at step {trainer.state.global_step}; a checkpoint is in {folder}"
        )


def check_trackers(machine: Machine) -> None:
    """Check that the trackers are known and installed.

    Raises: RunError.
    """
    try:
        for tracker in get_reporting_integration_callbacks(list(machine.trackers)):
            tracker()
    except (ValueError, RuntimeError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise RunError(f"machine.trackers: {reason}") from error


def _is_about_files(error: Exception) -> bool:
    """Whether an error is a failure to write; torch's and safetensors' writers raise errors of their own."""
    words = ("PytorchStreamWriter", "inline_container", "Parent directory", "No space left", "os error 28")
    return isinstance(error, OSError) or any(word in str(error) for word in words)


def _arguments(job: Job, machine: Machine, folder: Path) -> TrainingArguments:
    optimisation, precision = job.training, resolve_precision(machine.precision)
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=optimisation.epochs,
        max_steps=optimisation.max_steps or -1,
        learning_rate=optimisation.learning_rate,
        warmup_steps=optimisation.warmup,
        lr_scheduler_type=optimisation.schedule if optimisation.warmup == 0 else _with_warmup(optimisation.schedule),
        weight_decay=optimisation.weight_decay,
        max_grad_norm=optimisation.max_grad_norm,
        per_device_train_batch_size=machine.batch_size,
        gradient_accumulation_steps=machine.gradient_accumulation,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        save_strategy="steps",
        save_steps=machine.save_steps,
        save_total_limit=1,
        logging_steps=machine.log_steps,
        logging_nan_inf_filter=False,
        train_sampling_strategy="group_by_length" if machine.group_by_length else "random",
        dataloader_num_workers=machine.workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        report_to=list(machine.trackers) or "none",
        use_cpu=not torch.cuda.is_available(),
        disable_tqdm=True,
        seed=job.seed,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several devices are used by several processes, not by DataParallel
    return arguments


def _with_warmup(schedule: str) -> str:
    return "constant_with_warmup" if schedule == "constant" else schedule


class ElasticTrainer(Trainer):
    """The Trainer whose training step is an elastic step.

    It is handed the stock model, so that checkpoints are stock folders. The sub-networks of a step are drawn from
    (seed, step): every process draws the same, and a resumed run needs no sampler state.
    """

    def __init__(self, job: Job, data: TaskData, arguments: TrainingArguments, watcher: _Watcher) -> None:
        model = job.step.supernet.model
        setattr(model, "_is_accelerate_prepared", True)  # noqa: B010  keeps accelerate from wrapping it in DDP
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=data.train,
            data_collator=data.collate,  # type: ignore[arg-type]
            callbacks=[watcher],
        )
        self.remove_callback(PrinterCallback)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise RunError(
                "live sub-networks need the whole model on each process: launch with torchrun or accelerate's "
                "MULTI_GPU/MULTI_CPU, without FSDP or DeepSpeed"
            )
        self.job = job
        self.augment = data.augment
        self.watcher = watcher
        self._passes = 0

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        model.train()
        batch = self.augment(self._prepare_inputs(inputs), self._generator(self.accelerator.process_index, self._passes))
        self.job.step.supernet.allocate_gradients_()
        share = 1 / self.current_gradient_accumulation_steps

        def backward(loss: Tensor) -> None:
            self.accelerator.backward(loss * share)

        loss = self.job.step(batch, self._specs(), backward, self.accelerator.autocast)
        self._passes += 1
        if self.accelerator.sync_gradients:
            self._passes = 0
            self.watcher.stopped = self._average_gradients_(model)
            self._check_gradients(model, loss.terms)
        self._check_finite(loss.terms)
        self.watcher.add(loss.terms)
        return loss.total * share

    def _get_output_dir(self, trial: Any) -> str:
        return str(Path(str(self.args.output_dir)) / PARTIAL)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint aside, and give it its name once it is whole; older ones go after that.

        Raises: RunError for weights that are not finite: the last good checkpoint stays.
        """
        if not _are_finite(model.parameters()):
            raise self._not_finite("a weight", self.state.global_step)
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            publish(Path(str(self.args.output_dir)))
        self.accelerator.wait_for_everyone()

    def read_weights_(self, checkpoint: Path) -> None:
        """Give the model the weights of a checkpoint of the stage's last step: nothing is left to train."""
        self._load_from_checkpoint(str(checkpoint))
        self.state = TrainerState.load_from_json(str(checkpoint / STATE))

    def _check_gradients(self, model: nn.Module, terms: Mapping[str, Tensor]) -> None:
        """Check the averaged gradients before the optimizer uses them, so that all processes stop at the same step.

        With a gradient scaler (fp16) infinite gradients are normal: it skips the step.
        Raises: RunError naming the loss term, if this process had one that is not finite.
        """
        if getattr(self.accelerator, "scaler", None) is None and not _are_finite(p.grad for p in model.parameters()):
            bad = [name for name, value in terms.items() if not _are_finite([value])]
            raise self._not_finite(f"the loss term {bad[0]!r}" if bad else "a gradient", self.state.global_step + 1)

    def _not_finite(self, what: str, step: int) -> RunError:
        return RunError(
            f"stage {self.job.name!r}, step {step}: {what} is not finite; lower its learning_rate, check the data, or train "
            'with machine.precision = "fp32"'
        )

    def _check_finite(self, terms: Mapping[str, Tensor]) -> None:
        """Raises: RunError at the first loss that is not finite; on a GPU, which would have to wait, when numbers are logged."""
        step = self.state.global_step + 1
        if self.args.device.type != "cpu" and step % self.args.logging_steps:
            return
        for name, value in terms.items():
            if not _are_finite([value]):
                raise self._not_finite(f"the loss term {name!r}", step)

    def _specs(self) -> Sequence[Any]:
        return self.job.sampler(self.job.space, self._generator())

    def _generator(self, process: int = 0, forward_pass: int = 0) -> torch.Generator:
        """Randomness that is a function of the seed, the optimizer step, the process and the step's forward pass."""
        seed = self.args.seed * 1_000_003 + self.state.global_step
        return torch.Generator().manual_seed(seed + 1_000_000_007 * (process + 65_537 * forward_pass))

    def any_process(self, flag: bool) -> bool:
        """Whether the flag is up in any process; all of them must ask."""
        flags = torch.tensor([float(flag)], device=self.accelerator.device)
        if self.accelerator.num_processes > 1:
            torch.distributed.all_reduce(flags)
        return bool(flags[0] > 0)

    def _average_gradients_(self, model: nn.Module) -> bool:
        """Average every gradient over the processes, by one all-reduce, after the last backward pass of an optimizer step.

        Returns: whether any process was asked to stop. All of them learn it at the same step, as the all-reduce tells it.
        """
        if self.accelerator.num_processes == 1:
            return self.watcher.asked
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients] + [gradients[0].new_tensor([float(self.watcher.asked)])])
        torch.distributed.all_reduce(flat)
        stop = bool(flat[-1] > 0)
        flat /= self.accelerator.num_processes
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()
        return stop

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        sampler = super()._get_train_sampler(train_dataset)
        if not isinstance(sampler, LengthGroupedSampler):
            return sampler
        return _LengthsOfEpoch(sampler.batch_size, sampler.lengths, self.args.seed, lambda: int(self.state.epoch or 0))


class _LengthsOfEpoch(LengthGroupedSampler):
    """Groups examples by length in an order that is a function of seed and epoch.

    The stock sampler draws from the global generator, which a resumed run has moved on and which, after batches of unlike
    shapes, differs between processes.
    """

    def __init__(self, batch_size: int, lengths: list[int], seed: int, epoch: Callable[[], int]) -> None:
        super().__init__(batch_size, lengths=lengths)
        self.seed = seed
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch())
        return super().__iter__()


class _Watcher(TrainerCallback):
    """Reports progress, and turns an interruption into: finish the step, write a checkpoint, stop.

    asked: whether a signal came to this process. stopped: whether all processes stop after this step.
    """

    def __init__(self, stage: str, progress: Progress) -> None:
        self.stage = stage
        self.progress = progress
        self.asked = False
        self.stopped = False
        self._terms: dict[str, Tensor] = {}
        self._count = 0

    def add(self, terms: Any) -> None:
        for name, value in terms.items():
            self._terms[name] = self._terms.get(name, torch.zeros_like(value)) + value
        self._count += 1

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress.begin(self.stage, state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.stopped:
            control.should_save = True
            control.should_training_stop = True
        if state.global_step >= state.max_steps:
            control.should_log = True  # a stage of few steps has its numbers too
        self.progress.advance(self.stage, state.global_step, {})

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        parts = {f"loss/{name}": float(value) / max(1, self._count) for name, value in self._terms.items()}
        self._terms, self._count = {}, 0
        if state.is_world_process_zero:
            self.progress.advance(self.stage, state.global_step, {k: float(v) for k, v in logs.items()} | parts)


def _are_finite(tensors: Iterable[Tensor | None]) -> bool:
    """Whether every number of the tensors is finite; one wait for the device in all."""
    checked = [torch.isfinite(tensor.detach()).all() for tensor in tensors if tensor is not None]
    return not checked or bool(torch.stack(checked).all())


@contextmanager
def _kept_use_cache(model: nn.Module) -> Iterator[None]:
    """Give the configuration its `use_cache` back afterwards: the Trainer turns it off, and exports would keep that."""
    config = getattr(model, "config", None)
    before = getattr(config, "use_cache", None)
    try:
        yield
    finally:
        if before is not None:
            setattr(config, "use_cache", before)  # noqa: B010


@contextmanager
def _soft_interrupt(watcher: _Watcher) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM end the stage after its step; a second one acts as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {sign: signal.getsignal(sign) for sign in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: Any) -> None:
        watcher.asked = True
        signal.signal(number, old[signal.Signals(number)])

    for sign in old:
        signal.signal(sign, stop)
    try:
        yield
    finally:
        for sign, handler in old.items():
            signal.signal(sign, handler)
