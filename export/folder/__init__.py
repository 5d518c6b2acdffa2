"""The folder of an artifact: written whole or not at all, and read again."""
