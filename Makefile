# make setup | serve | test | fix | bench | bench-peers | bench-training | bench-following | bench-pages | column-groups | simulate | simulate-monitoring | simulate-retention | soak | soak-machines | bench-upgrade | catalogue | screenshots | wheel: each does the set-up that it needs, nothing twice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# What `make bench` is told beside its files, e.g. make bench BENCH="--quick --only many,zap,ceiling".
BENCH ?=
# What `make bench-following` is told, e.g. make bench-following FOLLOWING="--answers 1000000".
FOLLOWING ?=
# What `make simulate-retention` is told, e.g. make simulate-retention RETENTION="--answers 4000 --days 20 --keep 14".
RETENTION ?=
# What `make soak` is told, e.g. make soak SOAK="--minutes 5 --seed 1".
SOAK ?=
# What `make soak-machines` is told, e.g. make soak-machines MACHINES="--rounds 20 --seed 1".
MACHINES ?=
# What `make bench-upgrade` is told, e.g. make bench-upgrade UPGRADE="--predictions 1000000 --postgresql".
UPGRADE ?=
# What `make bench-pages` is told, e.g. make bench-pages PAGES="--predictions 50000 --drivers 2000 --browser".
PAGES ?=
# The file of sessions that `make column-groups` reads.
HISTORY ?=
PEERS := .bench
# The processes of the tests. Two for each core, because tests wait a third of their time for servers and browsers.
WORKERS = $(shell expr 2 \* $$(getconf _NPROCESSORS_ONLN))

.PHONY: help setup serve test test-long fix bench bench-peers bench-training bench-following bench-pages column-groups simulate simulate-monitoring simulate-retention soak soak-machines bench-upgrade catalogue screenshots wheel lock

help:
	@echo "make setup   the virtual environment with the pinned packages"
	@echo "make serve   set up, load a sample history and train where there is none, serve on http://127.0.0.1:8000"
	@echo "make test    set up, then lint, types and all tests (changes nothing)"
	@echo "make test-long   the tests of chance and of speed, and ten times as many examples: minutes"
	@echo "make fix     format and mend what ruff can mend"
	@echo "make bench   measure how fast zap serves, beside what could be (up to ten minutes); wrk: apt-get install wrk"
	@echo "make bench-peers     the environments of FastAPI and MLflow, which make bench then measures too"
	@echo "make bench-training  measure: trainings of up to a million sessions beside the bare fit of LightGBM (minutes)"
	@echo "make bench-following  measure how fast the follower works off a backlog; FOLLOWING=\"--answers 1000000\" (minutes)"
	@echo "make bench-pages  measure how long the server takes for each page, with a million predictions (minutes)"
	@echo "make column-groups  measure what each group of columns is worth; HISTORY=FILE of sessions (minutes)"
	@echo "make simulate  measure how often intervals over drivers mislead, in simulated histories (minutes)"
	@echo "make simulate-monitoring  measure how often notices, alarms and promotions are false, and how soon true ones come (half an hour)"
	@echo "make simulate-retention  live days with removal of old requests, and measure the size; RETENTION=\"--answers 4000 --days 20 --keep 14\""
	@echo "make soak    kill, restart, lock, stall and fill a server under load for an hour; SOAK=\"--minutes 5 --seed 1\", or \"--kills 100 --minutes 120\""
	@echo "make soak-machines  upgrade, cut off, kill and restart three machines and their PostgreSQL under load (root, iptables, nginx)"
	@echo "make bench-upgrade  measure the upgrade of a database of an older zap with a million predictions (minutes)"
	@echo "make catalogue  collect the texts of pages and sentences into the catalogues, zap/pages/catalogues/**/*.po"
	@echo "make screenshots  take the pictures of the pages in the manual from the sample (needs Chromium)"
	@echo "make wheel   the wheel of zap in dist, which installs anywhere and from which an image is made"
	@echo "make lock    resolve the ranges of pyproject.toml anew into requirements.lock"

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "zap needs Python 3.11 or newer; name one with: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "Python's venv is missing. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes --requirement requirements.lock
	@# All cores compile at once; pip takes one. A package may have templates that are no Python.
	-@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@$(BIN)/python -c 'import lightgbm' 2>/dev/null \
		|| { echo "LightGBM does not load; most often libgomp is missing. On Debian and Ubuntu: apt-get install libgomp1" >&2; \
		$(BIN)/python -c 'import lightgbm'; exit 1; }
	@touch $(STAMP)

serve: setup
	$(BIN)/zap serve --bootstrap

test: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@# Without the bytecode of zap and of the tests, each of hundreds of processes would compile them again.
	@# The types are checked beside the tests, because the check uses one core for half a minute. What it found is the last that
	@# is said.
	@$(BIN)/mypy >$(VENV)/types 2>&1 & types=$$!; \
	PYTHONDONTWRITEBYTECODE= GOMP_SPINCOUNT=1000 $(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist worksteal; tests=$$?; \
	wait $$types; types=$$?; cat $(VENV)/types; exit $$((tests | types))

test-long: setup
	GOMP_SPINCOUNT=1000 $(BIN)/python -m pytest -m long --numprocesses 2
	GOMP_SPINCOUNT=1000 ZAP_TEST_HYPOTHESIS=500 $(BIN)/python -m pytest -m hypothesis --numprocesses 2

fix: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	@mkdir -p $(PEERS)
	$(BIN)/python tests/benchmarks/serving.py --json $(PEERS)/serving.json --plot $(PEERS)/serving.svg $(BENCH)

bench-peers: $(PEERS)/fastapi/.installed $(PEERS)/mlflow/.installed

$(PEERS)/%/.installed: tests/benchmarks/peers/%.txt
	$(PYTHON) -m venv --clear $(PEERS)/$*
	$(PEERS)/$*/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

bench-training: setup
	$(BIN)/python tests/benchmarks/training.py
	$(BIN)/python tests/benchmarks/driver_history.py

bench-following: setup
	$(BIN)/python tests/benchmarks/following.py $(FOLLOWING)

bench-pages: setup
	$(BIN)/python tests/benchmarks/pages.py $(PAGES)

column-groups: setup
	$(BIN)/python tests/benchmarks/column_groups.py $(HISTORY)

simulate: setup
	$(BIN)/python tests/simulations/intervals.py

simulate-monitoring: setup
	$(BIN)/python tests/simulations/drift.py
	$(BIN)/python tests/simulations/harm.py
	$(BIN)/python tests/simulations/trials.py
	$(BIN)/python tests/simulations/usual_counts.py
	$(BIN)/python tests/simulations/usual_gaps.py

simulate-retention: setup
	$(BIN)/python tests/simulations/retention.py $(RETENTION)

soak: setup
	PYTHONPATH=tests $(BIN)/python tests/faults/soak.py $(SOAK)

soak-machines: setup
	PYTHONPATH=tests $(BIN)/python tests/faults/soak_machines.py $(MACHINES)

bench-upgrade: setup
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/upgrade.py $(UPGRADE)

catalogue: setup
	$(BIN)/pybabel --quiet extract --mapping-file pyproject.toml --keyword marked --no-location --sort-output \
		--output-file $(VENV)/pages.pot .
	$(BIN)/pybabel --quiet extract --no-default-keywords --keyword say --keyword say_many:1,2 --keyword phrase \
		--no-location --sort-output --output-file $(VENV)/sentences.pot zap
	@for file in zap/pages/catalogues/*.po zap/pages/catalogues/sentences/*.po; do \
		case $$file in */sentences/*) texts=sentences;; *) texts=pages;; esac; \
		$(BIN)/pybabel --quiet update --input-file $(VENV)/$$texts.pot --output-file $$file --locale $$(basename $$file .po) \
			--no-fuzzy-matching --ignore-obsolete --ignore-pot-creation-date --width 120; \
	done

screenshots: setup
	$(BIN)/python tests/screenshots.py

wheel: setup
	@rm -rf dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-build-isolation --no-deps --wheel-dir dist .

lock:
	@command -v uv >/dev/null || { echo "make lock needs uv: python3 -m pip install uv" >&2; exit 1; }
	uv pip compile pyproject.toml --group dev --group build --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --no-emit-index-url --upgrade --quiet --output-file requirements.lock
	uv pip compile pyproject.toml --extra excel --extra otel --universal --python-version 3.11 --constraint requirements.lock \
		--generate-hashes --no-header --no-annotate --no-emit-index-url --quiet --output-file zap/deploy/requirements.lock
