"""An interpreter of saved programs, of every format."""
