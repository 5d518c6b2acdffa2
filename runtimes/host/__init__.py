"""This machine: CPU, GPUs, threads, installed packages."""
