"""Desired and observed in, plan out; no I/O."""
