"""Whether an artifact may be trusted, and how fast it is."""
