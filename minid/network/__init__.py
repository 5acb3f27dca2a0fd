"""Networks. Knows nothing of containers."""
