# Each target but clean sets up the environment first.
#
# make env            Set up only.
# make demo           Train Mask R-CNN with SMT-T on digits (7 minutes).
# make test           Run the tests.
# make lint           Check style, types and spelling.
# make rehearse-all   Rehearse every config (without a GPU, an hour or two).
# make bench          Measure time and memory of SMT-S and other backbones
#                     (without a GPU, half an hour).
# make clean          Remove environments, build files and the demo's files.
#
# STACK=openmmlab     Use the frozen upstream packages.
# PYTHON=python3.11   Set up with this interpreter.
# COMPILE=1           Compile mmcv's operators (needs a C++ compiler; ten
#                     minutes or more).
# ENV=NAME            Use another folder under .venv.
# WORKERS=0           Run the tests in one process.
# REHEARSE=OPTIONS    Pass options to mmsmt rehearse, such as "--epochs 3".
# BENCH=OPTIONS       Pass options to mmsmt benchmark.
STACK ?= onedl
PYTHON ?= python3
COMPILE ?=
WORKERS ?= 2
ENV ?= $(STACK)$(if $(COMPILE),-compiled)
BIN = .venv/$(ENV)/bin

.PHONY: env demo test lint rehearse-all bench clean

env:
	@$(PYTHON) tools/setup_env.py --stack $(STACK) --env $(ENV) \
	    $(if $(COMPILE),--compile)

demo: env
	@$(BIN)/python tools/demo.py --work-dir work_dirs/demo_$(STACK)

test: env
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile \
	    --no-loadscope-reorder

lint: env
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . \
	    && $(BIN)/mypy --no-error-summary && $(BIN)/codespell

rehearse-all: env
	@failed=; for config in configs/*.py; do \
	    $(BIN)/python tools/rehearse.py $$config $(REHEARSE) \
	        || failed="$$failed $$config"; done; \
	test -z "$$failed" || { echo "Failed:$$failed"; exit 1; }

bench: env
	@$(BIN)/python tools/benchmark.py $(BENCH)

clean:
	rm -rf .venv build work_dirs/demo_$(STACK) data/demo_digits
