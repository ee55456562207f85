"""The tasks: a family a module, each with its own seeded generator, gold and scorer."""
