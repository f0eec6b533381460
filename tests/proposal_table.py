"""The section "Proposed" of docs/backbones.md: what `slimformer.discovery.propose` proves of families that no plugin describes.

    python -m tests.proposal_table --write docs/backbones.md

Without `--write` it prints the section. A family is a tiny model with random weights, made from its configuration.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from slimformer import load_plugins
from slimformer.discovery import propose
from slimformer.discovery.inspect import example_inputs
from slimformer.errors import SlimformerError
from slimformer.supernet import Batch

TITLE = "## Proposed"

INTRODUCTION = f"""{TITLE}

What `python -m tests.proposal_table --write docs/backbones.md` finds: families that no plugin describes, a tiny model of each with
random weights, and what `slimformer inspect` proposes for it. Proven: all eight laws hold along these axes. Whatever else the
proposal leaves whole it names with its reason; refused: nothing could be proven, for the reason given.

"""

NAMES: dict[str, dict[str, Any]] = {
    "hidden": {
        "hidden_size": 32, "d_model": 32, "n_embd": 32, "dim": 32, "emb_dim": 32, "word_embed_proj_dim": 32, "embedding_size": 32,
        "embed_dim": 32, "hidden_dim": 32,
    },
    "heads": {
        "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "num_key_value_heads": 2, "num_kv_heads": 2, "head_dim": 8, "d_kv": 8, "d_head": 8,
        "rotary_dim": 4,
    },
    "depth": {
        "num_hidden_layers": 3, "n_layer": 3, "n_layers": 3, "num_layers": 3, "encoder_layers": 3, "decoder_layers": 3,
        "num_decoder_layers": 3,
    },
    "neurons": {
        "intermediate_size": 48, "ffn_dim": 48, "n_inner": 48, "d_inner": 48, "encoder_ffn_dim": 48, "decoder_ffn_dim": 40,
        "d_ff": 48, "ffn_hidden_size": 48,
    },
    "text": {
        "vocab_size": 60, "max_position_embeddings": 64, "n_positions": 64, "max_seq_len": 64, "max_source_positions": 64,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "use_cache": False,
    },
    "images": {"image_size": 16, "patch_size": 4},
}  # fmt: skip

CAUSAL = (
    "Bloom", "Falcon", "GPTJ", "GPTNeo", "GPTNeoX", "OPT", "CodeGen", "StableLm", "Starcoder2", "Cohere", "Olmo", "Olmo2", "Granite",
    "Glm", "Phi", "Persimmon", "MPT:Mpt", "BioGpt", "XGLM", "Nemotron", "GPTBigCode", "Ernie4_5", "SmolLM3", "Helium", "Exaone4",
)  # fmt: skip
CLASSIFIERS = (
    "RobertaPreLayerNorm", "XLNet", "XLM", "ConvBert", "SqueezeBert", "Nystromformer", "RemBert", "MegatronBert", "Data2VecText",
    "Ernie", "Roformer:RoFormer", "Splinter:Splinter", "MobileBert", "LayoutLM", "Xmod",
)  # fmt: skip
IMAGES = ("Beit", "Dinov2WithRegisters", "Data2VecVision", "ViTMSN", "IJepa", "Swinv2")
SEQ2SEQ = ("Bart", "Pegasus", "Marian", "MBart", "M2M100", "BlenderbotSmall", "Blenderbot", "PLBart")

SPECIAL: dict[str, dict[str, Any]] = {
    "GPTNeo": {"attention_types": [[["global", "local"], 1], [["global"], 1]], "window_size": 4},
    "XLM": {"n_langs": 1},
    "Xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "ConvBert": {"embedding_size": 32},
    "Nystromformer": {"num_landmarks": 4, "segment_means_seq_len": 4},
    "SqueezeBert": {"embedding_size": 32},
    "Swinv2": {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 2, "patch_size": 2},
    "MobileBert": {"embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32},
    "Mpt": {"d_model": 32, "n_heads": 4, "n_layers": 3, "expansion_ratio": 2},
    "Exaone4": {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention", "full_attention"]},
    "GPTJ": {"n_inner": 48, "rotary_dim": 4},
}  # fmt: skip

FAMILIES: dict[str, str] = {
    **dict.fromkeys((n.rpartition(":")[2] for n in CAUSAL), "ForCausalLM"),
    **dict.fromkeys((n.rpartition(":")[2] for n in CLASSIFIERS), "ForSequenceClassification"),
    **dict.fromkeys(IMAGES, "ForImageClassification"),
    **dict.fromkeys(SEQ2SEQ, "ForConditionalGeneration"),
    "Splinter": "ForQuestionAnswering",
    "Marian": "MTModel",
    "IJepa": "ForImageClassification",
}


def build(name: str) -> Any:
    """A tiny model of a family of transformers, in eval mode; the settings that its configuration does not have are left out."""
    kinds = ("hidden", "heads", "depth", "neurons", "images" if name in IMAGES else "text")
    config_class = getattr(transformers, f"{name}Config")
    plain = config_class()
    known = {*plain.to_dict(), *getattr(plain, "attribute_map", {})}
    sizes = {field: value for kind in kinds for field, value in NAMES[kind].items() if field in known}
    mapped = set(getattr(plain, "attribute_map", {}).values()) & set(sizes)
    sizes = {k: v for k, v in sizes.items() if getattr(plain, "attribute_map", {}).get(k) not in mapped}
    config = config_class(**sizes | SPECIAL.get(name, {}))
    head = FAMILIES[name]
    return getattr(transformers, f"{name}{head}")(config).eval()


def inputs(model: Any) -> Batch:
    """What a model of the table is traced with: longer than the windows of its configuration."""
    return example_inputs(model)


def outcome(model: nn.Module) -> tuple[str, str, str]:
    """Whether a model is "proven" or "refused", the axes, and what stays whole or why."""
    try:
        proposal = propose(model, inputs(model))
    except SlimformerError as error:
        return "refused", "", _short(str(error))
    except Exception as error:  # a stranger's code: anything can happen
        return "not run", "", _short(f"{type(error).__name__}: {error}")
    whole = {}
    for refusal in proposal.refusals:
        whole.setdefault(_short(refusal.reason), refusal.module)
    notes = "; ".join(f"`{module}`: {reason}" for reason, module in list(whole.items())[:2])
    return "proven", ", ".join(proposal.topology.axes), notes


def _short(text: str) -> str:
    line = " ".join(text.split()).replace("|", "/")
    return line if len(line) < 140 else f"{line[:137]}..."


def row(name: str) -> list[str]:
    """The line of one family."""
    torch.manual_seed(0)
    try:
        model = build(name)
    except Exception as error:  # a configuration that this version of transformers builds in another way
        return [name, "", "not built", "", _short(f"{type(error).__name__}: {error}")]
    found = outcome(model)
    return [name, f"`{type(model).__name__}`", *found]


def section(rows: list[list[str]]) -> str:
    header = ["family", "class", "outcome", "axes", "what stays whole, or why"]
    lines = [header, ["---"] * len(header), *rows]
    return INTRODUCTION + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.proposal_table", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the section into this file instead of printing it")
    parser.add_argument("families", nargs="*", default=list(FAMILIES), help="these alone")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    load_plugins()
    rows = []
    for name in options.families:
        started = time.monotonic()
        rows.append(row(name))
        print(f"{name}: {' | '.join(rows[-1][2:])} ({time.monotonic() - started:.1f} s)", file=sys.stderr, flush=True)
    text = section(rows)
    if options.write:
        page = options.write.read_text(encoding="utf-8").partition(TITLE)[0].rstrip()
        options.write.write_text(f"{page}\n\n{text}", encoding="utf-8")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
