"""Blobs, layers, snapshots and volumes."""
