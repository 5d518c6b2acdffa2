"""How an artifact is made and handed over."""

__version__ = "0.1.0"
