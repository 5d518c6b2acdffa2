"""`vit-export tune`: which of the forms that a target can be made in is the fastest within a loss of accuracy."""
