"""What artifacts are fed: golden images, photos, labeled images."""
