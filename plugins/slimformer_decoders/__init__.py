"""Causal language models, one file per family."""

from slimformer_decoders import gpt2, llama

__all__ = ["gpt2", "llama"]
