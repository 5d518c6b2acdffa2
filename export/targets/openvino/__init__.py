"""OpenVINO IRs."""
