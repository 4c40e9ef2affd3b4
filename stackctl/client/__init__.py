"""Speaks the Docker Engine API."""
