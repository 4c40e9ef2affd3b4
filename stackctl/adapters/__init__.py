"""How the world answers: one implementation per contract."""
