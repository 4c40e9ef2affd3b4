"""Files change, services follow."""
