"""Proposes a topology for a model that no backbone describes, proves it by the laws, and writes it down as a plugin."""

from slimformer.discovery.plugin_writer import backbone_name, plugin_source
from slimformer.discovery.proposal import Proposal, Refusal, propose

__all__ = ["Proposal", "Refusal", "backbone_name", "plugin_source", "propose"]
