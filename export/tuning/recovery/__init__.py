"""Short fine-tuning for int8, without labels: `vit-export recover`."""
