"""Counters as a plugin: parameters, FLOPs and MACs of any sub-network, from its spec."""

from slimformer_counters import flops, parameters

__all__ = ["flops", "parameters"]
