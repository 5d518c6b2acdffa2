"""Commands for releases: bundles, and how two of them differ."""
