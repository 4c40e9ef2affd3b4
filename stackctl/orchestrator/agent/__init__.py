"""Keeps a stack true to its file while it runs: what dies or drifts comes back, in the order of the graph."""
