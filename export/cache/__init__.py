"""What was made and evaluated before, kept by everything that it depends on."""
