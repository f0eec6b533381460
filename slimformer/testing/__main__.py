"""Check the laws on a real checkpoint: `python -m slimformer.testing CHECKPOINT`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import torch
from torch import Generator

from slimformer.backbones.base import backbone_for
from slimformer.checkpoints import resolve
from slimformer.errors import CheckpointError, ExportError, SlimformerError
from slimformer.export.load import check_complete, class_for
from slimformer.plugins import load_plugins
from slimformer.testing.cases import (
    DEPTHS,
    WIDTHS,
    Case,
    law_space,
    random_specs,
)
from slimformer.testing.laws import (
    LAWS,
    check_generation,
    generates,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the laws on a checkpoint, a line for each; returns the exit code: 1 for a broken law, 2 for a bad argument."""
    import transformers

    parser = argparse.ArgumentParser(prog="python -m slimformer.testing", description="Check the laws on a real checkpoint.")
    parser.add_argument("checkpoint", help="a hub name, a folder, or package:DISTRIBUTION/FOLDER")
    parser.add_argument("--dtype", default="float32", choices=["float64", "float32", "bfloat16", "float16"])
    parser.add_argument("--specs", type=int, default=2, help="random per-layer sub-networks, beside the largest and smallest")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    transformers.utils.logging.disable_progress_bar()
    try:
        case = _case_of(options.checkpoint, getattr(torch, options.dtype), options.specs, options.seed)
        checks = (*LAWS, check_generation) if generates(case.model) else LAWS
        for check in checks:
            start = perf_counter()
            check(case)
            print(f"holds, {perf_counter() - start:5.1f} s  {(check.__doc__ or '').splitlines()[0]}", flush=True)
    except SlimformerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except AssertionError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _case_of(checkpoint: str, dtype: torch.dtype, count: int, seed: int) -> Case:
    """Raises: CheckpointError where the checkpoint holds no transformers model; TopologyError where no backbone describes it."""
    import transformers

    load_plugins()
    source = resolve(checkpoint)
    try:
        config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)
        cls: Any = class_for(config)
        model, report = cls.from_pretrained(source, dtype=dtype, output_loading_info=True)
        check_complete({**report, "unexpected_keys": ()})
    except (OSError, ValueError, AttributeError, ExportError) as error:
        raise CheckpointError(f"{checkpoint} holds no transformers model: {str(error).splitlines()[0]}") from None
    backbone = backbone_for(model)
    topology = backbone.topology(model)
    print(f"{type(model).__name__}: {sum(p.numel() for p in model.parameters()):,} parameters, {', '.join(topology.axes)}")
    smallest = law_space(topology, WIDTHS, DEPTHS).smallest().spec
    specs = (topology.full, smallest, *random_specs(topology, count, Generator().manual_seed(seed)))
    return Case.of(backbone, model, specs=specs, seed=seed)


if __name__ == "__main__":
    sys.exit(main())
