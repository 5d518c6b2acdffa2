"""The deploy form: exact rewrites of the trained form, and the modules that they leave."""
