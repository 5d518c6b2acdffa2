"""The faults that `selftest` plants, format by format."""
