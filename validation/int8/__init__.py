"""What only quantized artifacts are asked: ranges, and layer-wise execution."""
