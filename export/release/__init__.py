"""A release as a unit: a recipe of many artifacts, made and judged together."""
