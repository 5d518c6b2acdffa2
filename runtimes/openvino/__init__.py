"""OpenVINO IR, and OpenVINO."""
