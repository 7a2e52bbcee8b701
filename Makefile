# Each target but clean sets up the environment first.
#
# make env            Set up only.
# make demo           Train Mask R-CNN with SMT-T on digits (7 to 14 minutes).
# make test           Run the tests.
# make lint           Check style, types, spelling, Dockerfile and workflow.
# make docs           Build the documentation as a site, build/site.
# make rehearse-all   Rehearse every config (without a GPU, an hour or two).
# make bench          Measure time and memory of SMT-S and other backbones
#                     (without a GPU, half an hour).
# make clean          Remove environments, build files and the demo's files.
#
# STACK=openmmlab     Use the frozen upstream packages.
# PYTHON=python3.11   Set up with this interpreter.
# COMPILE=1           Compile mmcv's operators (needs a C++ compiler; ten
#                     minutes or more).
# CPU=1               Install torch without CUDA, which saves 3 GiB.
# ENV=NAME            Use another folder under .venv.
# WORKERS=0           Run the tests in one process.
# REHEARSE=OPTIONS    Pass options to mmsmt rehearse, such as "--epochs 3".
# BENCH=OPTIONS       Pass options to mmsmt benchmark.
STACK ?= onedl
WORKERS ?= 2
# From the command line only: shells have variables of these names.
PYTHON = python3
COMPILE =
CPU =
ENV = $(STACK)$(if $(COMPILE),-compiled)
BIN = .venv/$(ENV)/bin

.PHONY: env tools demo test lint docs rehearse-all bench clean

env:
	@$(PYTHON) tools/setup_env.py --stack $(STACK) --env $(ENV) \
	    $(if $(COMPILE),--compile) $(if $(CPU),--cpu)

# Tools that import none of the packages, in an environment of their own.
TOOLS = .venv/tools/bin
tools: env
	@cmp -s requirements/tools.txt .venv/tools/ready || { \
	    rm -rf .venv/tools \
	    && $(BIN)/python -m venv --without-pip .venv/tools \
	    && $(BIN)/python -m pip -q --python $(TOOLS)/python \
	        install --no-deps -r requirements/tools.txt \
	    && cp requirements/tools.txt .venv/tools/ready; }

demo: env
	@$(BIN)/python tools/demo.py --work-dir work_dirs/demo_$(STACK)

test: env
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile \
	    --no-loadscope-reorder

lint: tools
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . \
	    && $(BIN)/mypy --no-error-summary && $(BIN)/codespell
	@$(TOOLS)/hadolint docker/Dockerfile
	@$(TOOLS)/check-jsonschema -q --builtin-schema vendor.github-workflows \
	    .github/workflows/*.yml

docs: tools
	@NO_MKDOCS_2_WARNING=1 $(TOOLS)/mkdocs build -q

rehearse-all: env
	@failed=; for config in configs/*.py; do \
	    $(BIN)/python tools/rehearse.py $$config $(REHEARSE) \
	        || failed="$$failed $$config"; done; \
	test -z "$$failed" || { echo "Failed:$$failed"; exit 1; }

bench: env
	@$(BIN)/python tools/benchmark.py $(BENCH)

clean:
	rm -rf .venv build work_dirs/demo_$(STACK) data/demo_digits
