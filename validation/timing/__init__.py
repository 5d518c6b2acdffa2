"""Latencies of verified artifacts."""
