"""Exact arithmetic modulo several primes, in the place of floating point: what proves two programs equal."""
