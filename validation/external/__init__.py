"""Files and models that this project did not make."""
