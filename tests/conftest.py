"""Tiny real models for the tests: stock transformers classes with random weights far enough from zero to matter."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast

from slimformer import Axis, Space, SuperNet, load_plugins
from slimformer.axes import DEPTH_POLICIES
from slimformer.backbones import backbone_for
from slimformer.supernet import Batch

load_plugins()
torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell that runs the tests in the background makes them ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)

SIZES = {
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "vocab_size": 60,
    "max_position_embeddings": 40,
    "initializer_range": 0.3,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}

TinyModel = Callable[..., Any]


def build_tiny(family: str = "Bert", head: str = "ForSequenceClassification", attention: str = "sdpa", **sizes: Any) -> Any:
    """A model of a transformers family ("Bert", "Roberta", ...), in eval mode, the same one at each call.

    Biases and norms are random too, so that a slice which forgets them cannot pass for right.
    """
    config = getattr(transformers, f"{family}Config")(**SIZES | sizes, attn_implementation=attention)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, f"{family}{head}")(config)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(scope="session")
def tiny() -> TinyModel:
    return build_tiny


@pytest.fixture
def bert() -> nn.Module:
    return build_tiny("Bert")


@pytest.fixture
def roberta() -> nn.Module:
    return build_tiny("Roberta")


@pytest.fixture
def supernet(bert: nn.Module) -> SuperNet:
    """Four blocks of four heads and 64 neurons."""
    return SuperNet(bert, backbone_for(bert).topology(bert))


@pytest.fixture
def space(supernet: SuperNet) -> Space:
    """Width 1, 0.75, 0.5, 0.25 and depth 1, 0.75, 0.5, the last block always kept."""
    axes = (Axis("width", (1.0, 0.75, 0.5, 0.25)), Axis("depth", (1.0, 0.75, 0.5)))
    return Space(supernet.topology, axes, DEPTH_POLICIES.build("keep_last"))


@pytest.fixture(scope="session")
def batches() -> list[Batch]:
    """Three batches of four labelled sentences of ten tokens, the last sentence padded after six."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for _ in range(3):
        ids = torch.randint(2, 60, (4, 10), generator=generator)
        mask = torch.ones_like(ids)
        ids[-1, 6:], mask[-1, 6:] = 0, 0
        labels = torch.randint(2, (4,), generator=generator)
        made.append({"input_ids": ids, "attention_mask": mask, "labels": labels})
    return made


@pytest.fixture(scope="session")
def batch(batches: list[Batch]) -> Batch:
    return batches[0]


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


WORDS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "a",
    "bad",
    "cat",
    "dog",
    "good",
    "film",
    "is",
    "the",
    '"',
    "null",
    "NA",
    *"0123456789",
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Words and punctuation, sentence pairs in BERT's form."""
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **names)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a two-class BERT and its tokenizer."""
    folder: Path = tmp_path_factory.mktemp("checkpoint")
    build_tiny("Bert").save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return str(folder)
