"""`python -m bench engine`: what the CPU engine reuses, what that gains in time, and how far it is from the floor."""
