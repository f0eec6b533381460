"""Runs: do what a recipe says, keep it in a run folder, and work on finished runs."""
