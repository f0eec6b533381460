"""Measured latency: a table of what blocks of some sizes take on this machine, and from it the latency of any sub-network."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from slimformer.costs import COSTS, Workload
from slimformer.errors import WorkloadError
from slimformer.supernet import SubnetSpec
from slimformer_counters.latency_table import Plan, Sample, Table, fit, plan
from slimformer_counters.stopwatch import Stopwatch

if TYPE_CHECKING:
    import torch

    from slimformer.backbones import Backbone
    from slimformer.supernet import SuperNet

CHECKS = 4
"""Random per-layer specs that are measured only to state the error of the prediction."""


@COSTS.register("latency")
@dataclass(frozen=True)
class Latency:
    """Seconds of one forward pass on this machine, predicted from what some sub-networks were measured to take.

    Law: non-decreasing in every group's units and every stack's blocks, by a fit whose every increment is at least 0.
    Live sub-networks are timed in turn, round after round, and the fastest pass of each counts: an idle machine's. Blocks of
    the same shape share a table, of a few sizes for each of their groups, with straight lines between them. It is a sum: where
    a group is in every block (the axis "hidden"), and multiplies with the others, it is rougher; the error is kept with it.

    threads: torch's threads within an operator, 0 for as many as torch uses now. device: "cpu", "cuda", ...; "" for where the
        model is. dtype: number type of weights and intermediate tensors, "" for the model's own.
    clock: "wall", or "cpu" for the process's CPU seconds: steadier on a busy machine, the same with one thread on an idle one.
    seconds: how long measuring may take, about. folder: where the measurement is kept ("": nowhere).
    """

    threads: Annotated[int, Field(ge=0)] = 0
    device: str = ""
    dtype: Literal["", "float32", "float16", "bfloat16"] = ""
    clock: Literal["wall", "cpu"] = "wall"
    seconds: Annotated[float, Field(gt=0)] = 45.0
    folder: str = ""

    unit: ClassVar[str] = "seconds"
    is_measured: ClassVar[bool] = True

    def price(self, supernet: SuperNet, backbone: Backbone, workload: Workload) -> Table:
        device = self._device(supernet)
        about = self._about(supernet, workload, device)
        layout = plan(supernet)
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
        file = Path(self.folder) / f"latency-{digest}.json" if self.folder else None
        kept = _read(file) if file else None
        samples = kept or self._measure(supernet, backbone, workload, layout, device)
        table = fit(supernet.topology, layout, [sample for sample in samples if not sample.is_check])
        if file and not kept:
            error = table.error([sample for sample in samples if sample.is_check])
            _write(file, about | {"error": error, "samples": [sample.to_json() for sample in samples]})
        return table

    def _device(self, supernet: SuperNet) -> torch.device:
        import torch

        own = next(supernet.model.parameters()).device
        try:
            device = torch.device(self.device or own)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            what = str(error).partition("\n")[0]
            raise WorkloadError(f"latency.device={self.device}: {what}; write cpu, or a device that this machine has") from None
        return device

    def _about(self, supernet: SuperNet, workload: Workload, device: torch.device) -> dict[str, Any]:
        """The machine, the setting and the model: measurements with another of these are others."""
        import torch

        model = supernet.model
        shapes = json.dumps([[name, list(p.shape), str(p.dtype)] for name, p in model.named_parameters()])
        config = getattr(model, "config", None)
        return {
            "machine": {
                "processor": _processor(),
                "cores": os.cpu_count(),
                "device": _name(device),
                "torch": torch.__version__,
            },
            "setting": {
                "threads": self.threads or torch.get_num_threads(),
                "dtype": self.dtype or str(next(model.parameters()).dtype).removeprefix("torch."),
                "clock": self.clock,
                **asdict(workload),
            },
            "model": {
                "class": type(model).__name__,
                "shapes": hashlib.sha256(shapes.encode()).hexdigest()[:12],
                "attention": str(getattr(config, "_attn_implementation", "")),
            },
        }

    def _measure(
        self, supernet: SuperNet, backbone: Backbone, workload: Workload, layout: Plan, device: torch.device
    ) -> list[Sample]:
        watch = Stopwatch(supernet, backbone, workload, device, self.dtype, self.threads, self.clock)
        share = watch.affordable(layout.weight, self.seconds)
        specs = layout.specs(supernet.topology, share)
        checks = layout.checks(supernet.topology, CHECKS, share)
        times = watch.fastest([*specs, *checks], self.seconds)
        return [Sample(spec, time, number >= len(specs)) for number, (spec, time) in enumerate(times.items())]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _name(device: torch.device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _read(file: Path) -> list[Sample] | None:
    """What was measured before; a file that is damaged or not there is measured anew."""
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))["samples"]
        return [Sample(SubnetSpec.from_json(row["spec"]), float(row["seconds"]), bool(row["check"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(file: Path, table: dict[str, Any]) -> None:
    from slimformer.files import write_text, writing

    with writing(file):
        write_text(file, json.dumps(table, indent=1))
