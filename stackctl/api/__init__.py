"""The wire: what both halves must agree on; pure."""
