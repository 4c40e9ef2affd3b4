"""Dockerfiles, each built by us and by Docker's builder, compared file by file."""
