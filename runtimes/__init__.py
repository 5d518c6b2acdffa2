"""How an artifact is run and read: a folder for each format, and a registry."""
