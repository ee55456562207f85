"""What a clone needs before rlm-local is installed, and what its Makefile runs. Not part of the package."""
