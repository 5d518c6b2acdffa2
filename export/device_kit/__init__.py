"""The folder that checks an artifact on its device, and the import of its report."""
