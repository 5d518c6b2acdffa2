"""Faults in OpenVINO IRs."""
