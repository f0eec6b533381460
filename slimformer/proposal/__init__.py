"""Proposes a topology for a model that no backbone describes, proves it by the laws, and writes it down as a plugin."""

from slimformer.proposal.propose import Proposal, Refusal, propose
from slimformer.proposal.source import backbone_name, plugin_source

__all__ = ["Proposal", "Refusal", "backbone_name", "plugin_source", "propose"]
