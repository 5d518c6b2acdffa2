"""Commands that make many artifacts and compare them, or weights for them."""
