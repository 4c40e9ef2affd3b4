"""What the core asks of the world: protocols and the values they exchange."""
