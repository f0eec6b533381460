"""Import the built-in components, so that they register. It is loaded as a plugin, like any other."""

from slimformer import axes, distillation, importance, repair, rewiring, search

__all__ = ["axes", "distillation", "importance", "repair", "rewiring", "search"]
