# make demo    see it work          make check   format, lint, types, a build without a warning
# make test    the whole suite      make bench   speed beside the peers
# make soak    storms, full length  make docs    the pages, into build/docs
# make check-proofs                 break each facility, and see its proof fail
# ARGS goes to pytest or the benchmarks: make test ARGS='-k pipeline'

PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# What is going on is said on stderr: a demo's JSON is none the worse for it. pip's own words matter where it fails.
say = @echo 'hornpipe: $(1)' >&2
install = @$(PIP) install -q $(2) >.venv/pip.log 2>&1 </dev/null || { \
	echo 'hornpipe: cannot install $(1); is there a network? What pip says is in .venv/pip.log' >&2; exit 1; }

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Two pips at once in one environment get in each other's way.
.NOTPARALLEL:
.PHONY: demo test soak check check-proofs bench docs man packages wheel clean help tools FORCE

help:
	@sed -n '/^#/!q;s/^# //p' Makefile

demo: .venv/.hornpipe .venv/.needs-cli
	@$(BIN)/hornpipe tour $(ARGS)

# The tests run from their own folder and through pytest's script, so that only the installed
# wheel can be imported. Unbuffered children would hide every bug that buffering causes; nohup's
# children are deaf, and ours with them.
test: .venv/.hornpipe .venv/.needs-cli .venv/.needs-test tools
	@cd tests && env --default-signal -u PYTHONUNBUFFERED -u PYTHONPATH -u PYTHONDONTWRITEBYTECODE \
		../$(BIN)/pytest --durations=15 $(PYTEST_ARGS) $(or $(ARGS),--pyargs hornpipe .)

soak:
	@HORNPIPE_SOAK=1 $(MAKE) --no-print-directory test PYTEST_ARGS='-o faulthandler_timeout=1800'

check: .venv/.needs-check .venv/.needs-cli .venv/.needs-test build/.check-native
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/mypy --no-error-summary $(or $(wildcard tests/typing/*.py),--version)
	@echo 'check: format, lint, types and the native build are clean'

check-proofs: .venv/.hornpipe .venv/.needs-cli .venv/.needs-test .venv/.needs-build tools
	@env -u PYTHONUNBUFFERED $(BIN)/python tools/check_proofs.py $(ARGS)

# What hangs up a terminal must be heard: under nohup a peer waited for ever.
bench: .venv/.hornpipe .venv/.needs-bench tools
	@env --default-signal -u PYTHONUNBUFFERED $(BIN)/python -m benchmarks $(ARGS)

# The run of the tour that the docs show is made by the build.
docs: .venv/.hornpipe .venv/.needs-docs .venv/.needs-cli tools
	@$(BIN)/hornpipe tour > build/tour.txt
	@$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs
	@echo 'docs: build/docs/index.html'

# Built and installed as their users do, by every Python that is here.
packages: .venv/.needs-package
	@tools/check_packages $(BIN)

# The manual page of the command is part of the wheel, and made of the command's own help.
man: .venv/.hornpipe .venv/.needs-cli
	@$(BIN)/python tools/man_page.py > build/hornpipe.1 && mv build/hornpipe.1 docs/hornpipe.1

wheel: build/.wheel
	@mkdir -p dist && cp build/wheel/*.whl dist/ && ls dist/*.whl

clean:
	rm -rf .venv build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

tools:
	@tools/debian-tools

# --- how the environment comes about; each stamp says "done for these sources" ---

# A list of the files, rewritten only when it changes: a deleted file must count as a change as well.
LIST := find src -type f ! -path '*.egg-info/*' ! -path '*/__pycache__/*' ! -name '.*' | LC_ALL=C sort
build/sources: FORCE
	@mkdir -p build && list=$$($(LIST)) && if [ "$$list" != "$$(cat $@ 2>&1)" ]; then echo "$$list" > $@; fi

SOURCES := build/sources pyproject.toml setup.py $(wildcard README.md LICENSE docs/hornpipe.1) $(shell $(LIST))

.venv/.made: tools/setup-venv tools/install
	$(call say,making .venv)
	@tools/setup-venv '$(PYTHON)' .venv
	@touch $@

.venv/.needs-%: pyproject.toml tools/requirements.py .venv/.made
	$(call say,installing what $* needs)
	@$(BIN)/python tools/requirements.py $* > .venv/needs-$*.txt
	$(call install,what $* needs,-r .venv/needs-$*.txt)
	@touch $@

# Without isolation pip would fetch the build tools anew for every wheel. The build folder stays,
# so only what changed is compiled again.
build/.wheel: $(SOURCES) .venv/.needs-build
	$(call say,building the wheel)
	@rm -rf build/wheel
	@$(PIP) wheel -qq --no-build-isolation --no-deps -w build/wheel .
	@touch $@

.venv/.hornpipe: build/.wheel
	$(call install,the wheel,--no-deps --force-reinstall build/wheel/*.whl)
	@touch $@

build/.check-native: $(SOURCES) .venv/.needs-build
	@HORNPIPE_WERROR=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python setup.py -q build --build-base build/strict --force
	@touch $@
