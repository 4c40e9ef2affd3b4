"""Text to Stack, one module per phase."""
