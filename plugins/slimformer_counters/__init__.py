"""Counters as a plugin: parameters, FLOPs, MACs, memory and latency of any sub-network, from its spec."""

from slimformer_counters import flops, latency, memory, parameters, weights

__all__ = ["flops", "latency", "memory", "parameters", "weights"]
