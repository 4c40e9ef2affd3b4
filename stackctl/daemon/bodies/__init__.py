"""Bodies of the Docker Engine API: JSON to the values of the core and back; pure."""
