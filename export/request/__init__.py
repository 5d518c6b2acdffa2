"""What was asked for, checked before anything heavy starts."""
