# make demo     set up and train Mask R-CNN with SMT-T on digits (7 minutes)
# make test     set up and run the tests
# make lint     set up and check style
# make rehearse-all   set up and rehearse every config; REHEARSE="--epochs 3" and
#               the like are passed on (without a GPU, an hour or two)
# make bench    set up and measure time and memory of SMT-S and its peers; BENCH=
#               passes options on (without a GPU, half an hour)
# WORKERS=0 runs the tests in one process.
# STACK=openmmlab takes the frozen upstream packages; PYTHON=python3.11 the
# interpreter to set up with; COMPILE=1 compiles mmcv's operators (a C++
# compiler, ten minutes or more); ENV=NAME another folder under .venv.
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
