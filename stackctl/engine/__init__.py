"""What a container is and what may happen to it."""
