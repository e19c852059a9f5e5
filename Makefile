# Every command of the project; `make` alone prints them by group (##@). Only make and Python 3.11+ are assumed.

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PY := .venv/bin/python
# Empty: the first Python >= 3.11 that is found makes .venv. `make run PYTHON=python3.13` picks.
PYTHON ?=
# One more than there are cores, since tests wait a good deal; each has a PostgreSQL of its own, so
# not one for each core of a large machine.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); \
	[ "$$n" -ge 2 ] || n=2; [ "$$n" -le 7 ] || n=7; echo "$$((n + 1))")
# Folders of tests that have a target of their own. Not to load them saves a second for each worker.
SUITES := browser clients fuzz proxy redis tls
KILLS ?= 30
SECONDS ?= 600
ORGANIZATIONS ?= 3000
# Empty: a new one each time. `make fuzz SEED=17` repeats what was found with it.
SEED ?=
ARGS ?=
export KILLS
# Without bytecode each worker would rewrite all tests, and each process compile the product, anew.
unexport PYTHONDONTWRITEBYTECODE

# mypy's Django plugin imports the settings; these let them load and reach nothing.
MYPY_ENV := DEBUG=on DATABASE_URL=postgres://lint@localhost/lint SECRET_KEY=lint \
	CREDENTIAL_KEYS=0000000000000000000000000000000000000000000=
COMPILE := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --no-annotate \
	--no-header --no-emit-index-url --no-emit-find-links --generate-hashes

.PHONY: help venv run test test-browser test-tls test-redis test-proxy test-bench test-clients affinity lint types format \
	audit-dependencies check-isolation requirements \
	upgrade-requirements fuzz fuzz-small kill-storm job-storm fence-storm fence-small life-storm life-small restore-storm drill drill-small migrate-storm hostile hostile-small faults faults-small mutants login-timing reset-timing docker-check compose-secrets \
	need-chromium need-postgresql need-redis need-haproxy need-wrk need-npm need-bench need-clients connection-kinds bench bench-large profiles bench-report \
	round-robin clean

##@ Used first

# exec: the server is make's own child, so a signal to make reaches it and make waits for its end.
run: venv ## Serve on http://127.0.0.1:8000 with an embedded PostgreSQL (HOST, PORT, DATA_DIR)
	@exec $(PY) -m orgmgmt.serve

test: venv ## Run the tests in parallel, on PostgreSQLs of their own (ARGS: more for pytest)
	@$(PY) -m pytest -n $(WORKERS) --dist worksteal $(SUITES:%=--ignore=tests/%) \
		-m "not bench and not faults and not fuzz" $(ARGS)

lint: venv ## Check style, types, migrations and production's deployment checks
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@.venv/bin/lint-imports --no-logo --no-cache
	@$(MAKE) types
	@PYTHONPATH=. $(PY) deploy/production.py \
		"manage.py makemigrations --check --dry-run" \
		"manage.py migrate --verbosity 0" \
		"manage.py check --deploy --fail-level WARNING --database default"

format: venv ## Sort imports, fix what ruff can fix, format
	@$(PY) -m ruff format
	@$(PY) -m ruff check --fix
	@$(PY) -m ruff format

test-browser: venv need-chromium ## Run the tests in a browser (chromium)
	@$(PY) -m pytest -m browser tests/browser $(ARGS)

check-isolation: venv ## Attack one organization from another in every known way
	@PYTHONPATH=. $(PY) deploy/production.py \
		"manage.py migrate --verbosity 0" "manage.py check_isolation $(ARGS)"

compose-secrets: ## Make random secrets for docker compose; existing ones stay
	@sh deploy/make_secrets.sh

# --output-file names the old result too: pins that still fit are kept.
requirements: venv ## Pin requirements/*.in with hashes; pins that still fit stay
	@for name in base prod s3 dev bench clients; do \
		$(COMPILE) $(UPGRADE) requirements/$$name.in --output-file requirements/$$name.txt \
			> /dev/null || exit 1; \
		echo "requirements/$$name.txt: $$(grep -c == requirements/$$name.txt) packages"; \
	done

# TMPDIR says where the databases lie: on a disk, not in memory, or fsync costs nothing.
bench: need-bench ## Compare speed with the alternatives, up to 100 organizations (16 minutes)
	@$(PY) -m benchmarks.bench $(ARGS)

clean: ## Remove .venv, caches and results; the databases in .data and the secrets stay
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .grimp_cache \
		.hypothesis staticfiles test-results
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

##@ More tests

test-tls: venv need-postgresql ## Run the tests over TLS (Debian's postgresql)
	@$(PY) -m pytest -m tls tests/tls $(ARGS)

test-redis: venv need-redis ## Run the tests on Redis
	@$(PY) -m pytest -m redis tests/redis $(ARGS)

test-proxy: venv need-haproxy ## Run the tests behind HAProxy
	@$(PY) -m pytest -m proxy tests/proxy $(ARGS)

test-clients: need-clients ## Generate Python and TypeScript clients from the schema, and use them
	@$(PY) -m pytest -m clients tests/clients $(ARGS)

test-bench: need-bench ## Run the tests of the benchmarks (wrk, django-tenants)
	@$(PY) -m pytest -m bench tests/benchmarks $(ARGS)

# Half of the time is for the walls, half for the server's schema.
fuzz: venv ## Try tenancy and the API in random orders for SECONDS (SEED repeats a run)
	@seed='$(SEED)'; [ -n "$$seed" ] || seed=$$($(PY) -c 'import secrets; print(secrets.randbelow(10**9))'); \
	echo "seed $$seed, $(SECONDS) seconds; the report: test-results/fuzz.xml"; mkdir -p test-results; \
	FUZZ_SEED="$$seed" FUZZ_SECONDS="$$(( $(SECONDS) / 2 ))" FUZZ_SHRINK=on \
	$(PY) -m pytest -o junit_family=xunit1 --junitxml=test-results/fuzz.xml \
		tests/fuzz/test_random.py tests/http/test_fuzz.py $(ARGS)

fuzz-small: ## Try them once, with the same seed each time
	@$(MAKE) fuzz SECONDS=0 SEED=3

##@ Faults and attacks (minutes to hours)

# Two: each fault stops what it strikes, and half of the time is waited.
faults-small: venv ## Break what each writing flow rests on, at one step each
	@$(PY) -m pytest -n 2 --dist worksteal -m faults tests/faults $(ARGS)

faults: venv ## Break it at every step (ARGS: --seed 7, --only …)
	@$(PY) -m tests.faults.matrix $(ARGS)

hostile-small: venv ## Attack as one organization's role, with few requests and no times
	@$(PY) -m tests.faults.hostile --requests 100 --no-times

hostile: venv ## Attack while others work, and compare times (ARGS: --requests 100, --only …)
	@$(PY) -m tests.faults.hostile $(ARGS)

kill-storm: venv ## Kill (-9) the server during sign-ups, KILLS times, and count what is left
	@$(PY) -m tests.faults.kill_storm $(ARGS)

job-storm: venv ## Kill (-9) a worker during each kind of job, KILLS times each, and count
	@$(PY) -m tests.faults.job_storm $(ARGS)

fence-storm: venv ## Suspend at random while 8 clients ask 3 processes; count what goes on
	@$(PY) -m tests.faults.fence_storm $(ARGS)

fence-small: ## The same with few requests
	@$(MAKE) fence-storm ARGS="--requests 2000 --seed 7"

life-storm: venv ## Act on 50 organizations at random, kill at random; count what is lost
	@$(PY) -m tests.faults.life_storm $(ARGS)

life-small: ## The same with few organizations
	@$(MAKE) life-storm ARGS="--organizations 6 --acts 40 --seed 7"

restore-storm: venv ## Restore an organization while 4 clients write for 60 s; count what is lost
	@$(PY) -m tests.faults.restore_storm $(ARGS)

drill: venv ## Lose the server, bring it back from its backups, and take the time (ARGS: --organizations 100)
	@$(PY) -m tests.faults.drill $(ARGS)

drill-small: ## The same with 5 organizations
	@$(MAKE) drill ARGS="--organizations 5"

migrate-storm: venv ## Kill (-9) migrate_orgs half-way, spoil one organization's data, and count
	@$(PY) -m tests.faults.migrate_storm $(ARGS)

mutants: venv ## Break the product in each named way, and see the tests of each fail (minutes)
	@$(PY) -m tests.mutants $(ARGS)

##@ Measurements

bench-large: need-bench ## Run make bench with 1,000 and 3,000 organizations: 30 GB, hours, resumable
	@$(PY) -m benchmarks.large $(ARGS)

bench-report: venv ## Make tables, plots and docs/performance.md from the results' JSON
	@$(PY) -m benchmarks.report

profiles: need-bench ## Show where time goes: flame graphs and PostgreSQL's statements (root)
	@$(PY) -m benchmarks.profiles $(ARGS)

round-robin: venv ## Touch ORGANIZATIONS in turn from one process; watch memory and connections
	@$(PY) -m benchmarks.measures.round_robin --organizations $(ORGANIZATIONS) $(ARGS)

affinity: venv need-wrk need-haproxy ## Measure a proxy that sends each organization to one process
	@$(PY) -m benchmarks.affinity $(ARGS)

connection-kinds: need-bench ## Compare the ways to keep organizations' connections
	@$(PY) -m benchmarks.connection_kinds $(ARGS)

login-timing: venv ## Compare how long the kinds of failed login take
	@$(PY) -m benchmarks.login_timing $(ARGS)

reset-timing: venv ## Compare how long password resets take, with and without an account
	@$(PY) -m benchmarks.reset_timing $(ARGS)

##@ Upkeep

help: ## Print this list
	@awk -F ':.*## ' '/^##@ / { printf "%s%s\n", n++ ? "\n" : "", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-21s %s\n", $$1, $$2 }' Makefile

venv: ## Make .venv and install requirements/dev.txt, if needed
	@PYTHON='$(PYTHON)' sh requirements/venv.sh

types: venv ## Check types with mypy; part of lint
	@$(MYPY_ENV) $(PY) -m mypy

docker-check: venv ## Build, start and use what the Dockerfile says, without Docker
	@PYTHONPATH=. $(PY) deploy/run_dockerfile.py

audit-dependencies: venv ## Ask pip-audit whether a pinned package has a known vulnerability
	@$(PY) requirements/audit_dependencies.py $(ARGS)

upgrade-requirements: ## Pin the newest versions that fit
	@$(MAKE) requirements UPGRADE=--upgrade

# What the targets above need.

need-chromium:
	@sh requirements/debian_package.sh /usr/bin/chromium chromium

need-postgresql:
	@sh requirements/debian_package.sh '/usr/lib/postgresql/*/bin/postgres' postgresql

need-wrk:
	@sh requirements/debian_package.sh /usr/bin/wrk wrk

# Beside dev's in .venv; the copy says that it is there, as requirements/venv.sh does it.
define beside
	@cmp -s requirements/$(1).txt .venv/installed-$(1).txt || { \
		echo "Installing requirements/$(1).txt into .venv"; \
		$(PY) -m pip install --quiet --quiet --no-input --disable-pip-version-check \
			--require-hashes --requirement requirements/$(1).txt && \
		cp requirements/$(1).txt .venv/installed-$(1).txt; }
endef

need-bench: venv need-wrk
	$(call beside,bench)

# What npm installs goes below .venv too, and the copy beside it says what that is.
need-clients: venv need-npm
	$(call beside,clients)
	@cmp -s tests/clients/package-lock.json .venv/clients/installed.json || { \
		echo "Installing tests/clients/package-lock.json into .venv/clients"; \
		mkdir -p .venv/clients && cp tests/clients/package*.json .venv/clients && \
		(cd .venv/clients && npm ci --silent --ignore-scripts --no-audit --no-fund) && \
		cp tests/clients/package-lock.json .venv/clients/installed.json; }

need-npm:
	@sh requirements/debian_package.sh /usr/bin/npm npm

need-haproxy:
	@sh requirements/debian_package.sh /usr/sbin/haproxy haproxy

need-redis:
	@sh requirements/debian_package.sh /usr/bin/redis-server redis-server
