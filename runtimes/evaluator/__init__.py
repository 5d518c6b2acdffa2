"""An interpreter of saved programs, shared by Core ML and TensorRT."""
