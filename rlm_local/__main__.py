"""`python -m rlm_local` is `rlm-local`."""

from rlm_local.cli.main import run

run()
