"""What a device is asked, and what its answers are held to."""
