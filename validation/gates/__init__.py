"""The gates: what is compared, and by which budget."""
