# Hookline's commands. `make` alone lists them.

PYTHON := /usr/bin/python3# the system's, because it alone sees Debian's bcc
BIN := .venv/bin
RUN_PACKAGES := python3-bpfcc python3-venv
C_PACKAGES := gcc libc6-dev libpython3-dev# for what decodes, enriches and encodes in C; without it that is done in Python
DEV_PACKAGES := $(RUN_PACKAGES) $(C_PACKAGES) iproute2 musl-tools netcat-openbsd openssh-client openssh-server zsh openjdk-17-jdk-headless busybox-static podman runc
SERVER_PACKAGES := maven openjdk-17-jre-headless
KERNEL_PACKAGES := $(DEV_PACKAGES) qemu-system-x86 debian-archive-keyring
SUITES := unit live services faults
BUILT_FROM := pyproject.toml probes/slots.h probes/native.c pipeline/enrich/native.c pipeline/encode/native.c
SOURCES := probes pipeline sinks bench
MADE := ./.venv ./build ./dist ./*.egg-info */__pycache__ ./.benchmarks ./.hypothesis ./.mypy_cache \
	./.pytest_cache ./.ruff_cache ./probes/native.*.so ./pipeline/*/native.*.so
FIND_MADE := \( $(MADE:%=-path '%' -o) -false \) -prune

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help run test test-kernels services services-stop check bench lock clean
unexport PYTHONHOME PYTHONPATH VIRTUAL_ENV

# Shell functions. They report on standard error, so that `make run ARGS="--output -" | jq` reads events only.
define functions
say() { printf '%s\n' "$$*" >&2; }
die() { say "$$*"; exit 2; }

# Run a command unseen; if it fails, show all that it said.
quietly() {
	local log
	log=$$(mktemp)
	if ! "$$@" >"$$log" 2>&1 </dev/null; then
		cat "$$log" >&2
		rm -f "$$log"
		die "Failed, see above: $$*"
	fi
	rm -f "$$log"
}

debian() { # PACKAGE...: install what is missing
	local package missing=() root=()
	if ! command -v dpkg-query >/dev/null; then
		$(PYTHON) -c 'import bcc, venv' 2>/dev/null ||
			die "This is not Debian: install bcc's Python 3 module and venv for $(PYTHON) yourself, then try again."
		return
	fi
	for package; do
		dpkg-query -W -f '$${db:Status-Status}\n' "$$package" 2>/dev/null | grep -qx installed || missing+=("$$package")
	done
	(($${#missing[@]})) || return 0
	if ((EUID)); then
		root=(sudo)
		[[ -t 0 ]] || root+=(-n)
		command -v sudo >/dev/null && "$${root[@]}" true ||
			die "Missing Debian packages: as root, run \"apt-get update && apt-get install $${missing[*]}\", then try again."
	fi
	say "Updating the package lists ..."
	quietly "$${root[@]}" apt-get -q update
	say "Installing $${missing[*]} ..."
	quietly "$${root[@]}" env DEBIAN_FRONTEND=noninteractive \
		apt-get -qy --no-install-recommends -o DPkg::Lock::Timeout=300 install "$${missing[@]}"
}

# .venv/.busy: work on it began and did not end. .venv/.place: the folder and the Python it was made for.
# .venv/.run and .venv/.dev: a checksum of what was installed. Where these do not fit, the work is done (again).
environment() { # run|dev
	local kind=$$1 place want
	local -A files=([run]=requirements.txt [dev]=requirements-dev.txt)
	place="$$PWD $$(readlink -f $(PYTHON))"
	want=$$(cat "$${files[$$kind]}" $(BUILT_FROM) | sha256sum)
	[[ -e .venv/.busy || "$$(cat .venv/.place .venv/.$$kind 2>/dev/null)" != "$$place"$$'\n'"$$want" ]] || return 0
	[[ -w . && ( ! -e .venv || -w .venv ) ]] ||
		die "Cannot write .venv here: run make once as $$(stat -c %U .), the owner of $$PWD."
	if [[ -e .venv/.busy || "$$(cat .venv/.place 2>/dev/null)" != "$$place" ]]; then
		say "Creating .venv ..."
		rm -rf .venv
		quietly $(PYTHON) -m venv --system-site-packages .venv
	fi
	touch .venv/.busy
	say "Installing $${files[$$kind]} ..."
	quietly $(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r "$${files[$$kind]}"
	rm -f probes/native.*.so pipeline/*/native.*.so
	quietly $(BIN)/python -m pip install --disable-pip-version-check --no-index --no-deps --no-build-isolation -e .
	$(BIN)/python -c 'import probes.native, pipeline.enrich.native, pipeline.encode.native' 2>/dev/null ||
		say "What decodes, enriches and encodes in C could not be built, so that is done in Python, more slowly; it takes $(C_PACKAGES)."
	for kind in run $$kind; do # what run needs is part of dev
		cat "$${files[$$kind]}" $(BUILT_FROM) | sha256sum >.venv/.$$kind
	done
	echo "$$place" >.venv/.place
	rm .venv/.busy
}

# What root made in somebody's checkout becomes theirs, so that they can go on without sudo.
give_back() {
	local owner
	owner=$$(stat -c %u:%g .)
	if ((EUID == 0)) && [[ $$owner != 0:* ]]; then
		find . -xdev -path ./.git -prune -o $(FIND_MADE) -exec chown -Rh --from=0 "$$owner" {} +
	fi
}

tracefs() { # have it mounted, where probes expect it
	[[ "$$(stat -f -c %T /sys/kernel/tracing 2>/dev/null)" != tracefs ]] || return 0
	say "Mounting tracefs on /sys/kernel/tracing ..."
	mount -t tracefs tracefs /sys/kernel/tracing || say "tracefs cannot be mounted; trying without."
}

prepare() { # run|dev PACKAGE...
	exec {lock}<Makefile
	flock "$$lock"
	trap give_back EXIT
	debian "$${@:2}"
	[[ $$1 == dev ]] || (debian $(C_PACKAGES)) || true
	environment "$$1"
	exec {lock}<&-
	if [[ ! -w . ]]; then # somebody else's checkout, ready to use: leave no caches
		export MYPY_CACHE_DIR=/dev/null PYTEST_ADDOPTS="-p no:cacheprovider" RUFF_NO_CACHE=true
	fi
}
endef

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 22
	@echo '  ARGS="..." goes to hookline run (make run), pytest (make test) or bench run (make bench).'

run: ## Watch this host: run the collector (needs root)
	@$(if $(filter 0,$(shell id -u)),,$(error hookline loads programs into the kernel, which needs root: sudo make run))
	$(functions)
	prepare run $(RUN_PACKAGES)
	tracefs
	$(BIN)/python -m compileall -q $(SOURCES) >/dev/null 2>&1 || true
	want=$$(uname -rv; cat probes/*.py probes/*/*.[ch] probes/*/*.py | sha256sum)
	if [[ "$$(cat .venv/.compiled 2>/dev/null)" != "$$want" ]]; then
		say "Compiling the probes for this kernel ..."
		PYTHONDONTWRITEBYTECODE=1 $(BIN)/hookline compile && echo "$$want" >.venv/.compiled ||
			say "Some cannot be compiled now; hookline run says why."
	fi
	give_back
	trap - EXIT
	PYTHONDONTWRITEBYTECODE=1 exec $(BIN)/hookline run $(value ARGS)

test: ## Run the tests; those that need root run as root only
	@$(functions)
	prepare dev $(DEV_PACKAGES)
	if [[ -n "$(filter services faults,$(SUITES))" ]]; then
		(debian $(SERVER_PACKAGES)) || say "The tests that need servers will be skipped."
	fi
	$(BIN)/python -m pytest $(wildcard $(SUITES:%=tests/%)) $(value ARGS)

services: ## Start Kafka and Elasticsearch for tests, and leave them running
	@$(functions)
	prepare dev $(DEV_PACKAGES) $(SERVER_PACKAGES)
	$(BIN)/python -m tests.servers start $(value ARGS)

services-stop: ## Stop them
	@$(functions)
	prepare dev $(DEV_PACKAGES)
	$(BIN)/python -m tests.servers stop $(value ARGS)

test-kernels: ## Run the live tests on Debian's kernels, in virtual machines
	@$(functions)
	prepare dev $(KERNEL_PACKAGES)
	$(BIN)/python -m pytest tests/kernels $(value ARGS)

check: ## Lint, format, types and layers
	@$(functions)
	prepare dev $(DEV_PACKAGES)
	status=0
	for tool in "ruff check" "ruff format --check" mypy "lint-imports --no-logo --no-cache"; do
		$(BIN)/$$tool || status=1
	done
	exit $$status

bench: ## Measure what the documents' tables show, and put it there (needs root; half an hour)
	@$(functions)
	prepare dev $(DEV_PACKAGES) $(SERVER_PACKAGES)
	tracefs
	results=bench/results
	mkdir -p build/e2e
	$(BIN)/bench run --json "$$results/run.json" $(value ARGS)
	$(BIN)/bench stages --json "$$results/stages.json"
	measure() { # RESULT TESTS: benchmarks of pytest
		$(BIN)/python -m pytest bench -q --benchmark-only -k "$$2" "--benchmark-json=$$results/$$1.json"
	}
	measure ndjson ndjson
	measure start test_start
	measure memory test_tree
	measure sinks test_sinks
	$(BIN)/bench overhead --json "$$results/overhead.json"
	$(BIN)/bench storm --json "$$results/storm.json"
	$(BIN)/python -m tests.servers start
	$(BIN)/hookline setup elasticsearch --config bench/three-sinks.toml
	$(BIN)/python -c "from tests.services.topics import create; create('127.0.0.1:19092', 'hookline')"
	$(BIN)/bench e2e --config bench/three-sinks.toml --rate 100 --rate 1000 --rate 3000 --json "$$results/e2e.json"
	$(BIN)/python -m tests.servers stop
	$(BIN)/python -m bench.document
	$(BIN)/bench show "$$results/run.json" --stages "$$results/stages.json" --overhead "$$results/overhead.json" \
		--html build/bench.html

lock: ## Pin the dependencies of pyproject.toml again
	@$(functions)
	prepare dev $(DEV_PACKAGES)
	tool=$$(mktemp -d)
	trap 'rm -rf "$$tool"; give_back' EXIT
	say "Installing uv, for this once ..."
	quietly $(BIN)/python -m pip install --disable-pip-version-check --target "$$tool" uv
	pin() { # FILE OPTION...: "uv pip compile", less the marker that [tool.uv] puts on every line
		PYTHONPATH=$$tool $(BIN)/python -m uv --quiet --system-certs pip compile --universal --upgrade --generate-hashes \
			"--custom-compile-command=make lock" pyproject.toml --group build "$${@:2}" -o "$$1"
		sed -i -e "s/ ; implementation_name == 'cpython' and sys_platform == 'linux' / /" \
			"-e1i # bcc is not here: it is Debian's python3-bpfcc. The bcc on PyPI is an unrelated package." "$$1"
	}
	say "Pinning requirements.txt and requirements-dev.txt ..."
	quietly pin requirements.txt
	quietly pin requirements-dev.txt --group dev -c requirements.txt

clean: ## Remove all that make made
	@find . -xdev -path ./.git -prune -o $(FIND_MADE) -exec rm -rf {} + 2>/dev/null ||
		{ echo "Some of it belongs to somebody else: sudo make clean" >&2; exit 2; }
