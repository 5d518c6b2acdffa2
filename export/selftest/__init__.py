"""`vit-export selftest`: what a pass on these weights is worth."""
