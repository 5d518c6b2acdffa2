"""Core AI: saved assets read by Apple's own library, and run by Apple's own runtime, each in a process of its own."""
