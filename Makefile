# make chat                       talk to a model (the embedded demo model, unless MODEL names another)
# make chat MODEL=Qwen/Qwen3-0.6B
# make test                       run the tests
# make test-faults                run the tests of faults, load, broken input and attack in full (hours)
#
# Everything is installed into .venv the first time. PYTHON, VENV and BUILD (cpu, gpu, auto) can be overruled.
# EXTRAS="web stack" also installs what the web page and the stack need.

PYTHON ?= python3
VENV ?= .venv
BUILD ?= auto
EXTRAS ?=
MODEL ?= demo
ARGS ?=

RUN = $(VENV)/bin/python
SOURCES = *.py chat chatcore demo_model tests benchmarks examples docs/*.py docs/images/*.py

.DEFAULT_GOAL := help
.PHONY: help install chat ask serve test test-faults bench check format docs demo-model clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -n 8

install:
	@deploy/install.sh $(VENV) $(BUILD) $(PYTHON) "$(EXTRAS)"

chat: install
	@$(RUN) vllm_deploy.py chat --model "$(MODEL)" $(ARGS)

serve: install
	@$(RUN) vllm_deploy.py serve --model "$(MODEL)" $(ARGS)

test: install
	$(RUN) -m pytest $(ARGS)

test-faults: install
	RELIABILITY=full $(RUN) -m pytest tests/reliability -s $(ARGS)

bench: install
	$(RUN) benchmarks/run_all.py $(ARGS)

check: install
	$(RUN) -m ruff format --check $(SOURCES)
	$(RUN) -m ruff check $(SOURCES)
	$(RUN) -m mypy
	$(RUN) -m vulture $(SOURCES)

format: install
	$(RUN) -m ruff format $(SOURCES)
	$(RUN) -m ruff check --fix $(SOURCES)

docs: install
	@$(RUN) -c "import mkdocs, mkdocstrings" 2>/dev/null || $(RUN) -m pip install --quiet --no-deps -r requirements-docs.txt
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

demo-model: install
	$(RUN) -m demo_model.train_tokenizer
	$(RUN) -m demo_model.train
	$(RUN) -m demo_model.evaluate

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
