"""The half that knows stack files."""
