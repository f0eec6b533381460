"""The built-in components, as a plugin like any other: importing this module registers them."""

from slimformer import distill, importance, rewiring, sampling, search

__all__ = ["distill", "importance", "rewiring", "sampling", "search"]
