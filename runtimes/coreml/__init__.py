"""Core ML: packages read and evaluated on any host, and run natively on a Mac."""
