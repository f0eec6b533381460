"""Encoder-decoders, each stack with axes of its own, one file per family."""

from slimformer_seq2seq import t5, whisper

__all__ = ["t5", "whisper"]
