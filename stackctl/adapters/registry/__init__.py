"""Fetching and publishing images."""
