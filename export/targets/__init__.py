"""What can be made: a folder for each target."""
