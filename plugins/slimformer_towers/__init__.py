"""Models of two stacks, each with axes of its own, one file per family."""

from slimformer_towers import clip, t5, whisper

__all__ = ["clip", "t5", "whisper"]
