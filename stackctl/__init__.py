"""Declarative multi-container stacks with a container engine of their own."""

__version__ = "0.1.0"
