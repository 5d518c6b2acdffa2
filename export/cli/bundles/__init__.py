"""Commands for a release as a whole: bundles, and what became of them over time."""
