"""Connecting containers: bridges, names and published ports."""
