"""From an image file to the tensor that the network takes, and from logits to class names."""
