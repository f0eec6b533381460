"""Causal language models, one file per family, and language modelling."""

from slimformer_decoders import causal_lm, gpt2, llama, moe, phi3

__all__ = ["causal_lm", "gpt2", "llama", "moe", "phi3"]
