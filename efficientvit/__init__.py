"""What the model is: its family, layers, weights, deploy form and preprocessing."""
