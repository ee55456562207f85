"""The ways of answering that are compared: an arm a module, all with the same weights and the same limits."""
