"""The turn language: its source, its generator and the dialects that were written from it."""
