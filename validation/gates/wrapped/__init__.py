"""Gates of files that have preprocessing or answers around their network: docs/preprocessing.md."""
