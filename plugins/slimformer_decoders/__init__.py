"""Causal language models, one file per family."""

from slimformer_decoders import gpt2, llama, moe, phi3

__all__ = ["gpt2", "llama", "moe", "phi3"]
