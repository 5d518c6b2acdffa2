"""TensorRT: parsed networks evaluated on any host, and engines run on a GPU."""
