"""What the commands beside `export` do, without printing it."""
