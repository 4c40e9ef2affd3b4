"""Plan to engine calls."""
