"""What Core ML and Core AI have in common: options, metadata and records in the manifest."""
