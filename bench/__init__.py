"""Measures rlm-local. Run from a clone's root, never shipped: `python -m bench run niah --help`."""
