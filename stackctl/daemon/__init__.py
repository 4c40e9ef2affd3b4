"""Serves the Docker Engine API."""
