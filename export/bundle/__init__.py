"""The bundle: the artifacts of a release in one folder, with what describes, vouches for and signs them."""
