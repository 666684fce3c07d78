# make demo    the whole system on this machine: the server, real trainings, a picture (under target/demo)
# make test    Rust and Python tests, real processes included
# make test-frameworks   the Python client with the newest PyTorch, Lightning, transformers, Keras and JAX: installs
#              what tests/frameworks/requirements.txt pins into .venv-frameworks (6 GB)
# make test-deploy   the container image, the Helm chart, a pod, and what deploy/README.md says: builds the image with podman;
#              where no registry of images is reached, from base images that it makes of Debian's packages (as root)
# make test-gpu   the tests of device losses on a CUDA GPU, with the PyTorch of .venv-frameworks; fails where there is none
# make torture 1000 times kill -9 of servers and trainers at every point of a job's life, 50 times of a PyTorch training:
#              lost reports, changed decisions, stuck jobs; some minutes. TORTURE_SEED=2 draws other points
# make fuzz    libFuzzer on every fuzz target, FUZZ_SECONDS (3600) on each; prints executions and finds
# make check   format, lints, docs, types, licences, proto
# make fmt     formats Rust and Python
# make bench   speed of the server's parts, of a decision over the wire, of step(), of slots
#              beside a plain copy, and the client's share of a training's time;
#              BENCH_ROWS=tests/bench/rows.jsonl keeps the rows
# make bench-policies   every policy on surfaces with a known optimum: final loss, regret, overhead;
#              BENCH_ROWS=tests/bench/policies.jsonl keeps the rows
# make bench-convergence   real trainings, five tasks, against tuned schedules at equal steps; then a hundred seeds and
#              hostile settings: about two hours; takes up the rows in tests/bench/ and runs what they lack
# make soak    1,000 jobs at once for ten minutes, each with a client of its own, that come and go: memory, open files and disk of
#              the server as rows (tests/bench/soak.jsonl) and as a picture (tests/bench/soak.svg), and the slope after the
#              warm-up. SOAK="--seconds 60 --jobs 100" for less, under target/soak then;
#              the rows that are kept are of half an hour: SOAK="--seconds 1800"
# make example-candle   a convolutional network in candle, with the searched learning rate and with constant ones;
#              fetches and builds candle, which takes some minutes
# make docs    the reference of the Python package and of the Rust crates as HTML, under target/docs and target/doc; a
#              docstring that can't be rendered or that names what does not exist is an error
# make wheel   the Python package as a wheel and as a source distribution, checked, under target/wheels
# make package the same, and the crates autolrs-proto, autolrs-core and autolrs-client as `cargo publish` would send
#              them, built from their archives under target/package (cargo 1.90 or newer); publishes nothing
# make clean   removes everything that was built
#
# Each installs what it needs: virtual environments in .venv and .venv-frameworks, tools under target/tools, and as root
# with apt (else it says what to install) Debian's python3-torch, libopenblas0-pthread, dataset-fashion-mnist and strace;
# for test-deploy podman, prometheus and what they need (DEPLOY_PACKAGES). `check` and test-deploy also need Node.js with
# npm, for buf and for schemas.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-rust test-python test-frameworks test-deploy test-gpu torture check fmt bench bench-policies bench-convergence soak example-candle docs wheel package clean fuzz server server-release

TARGET := $(or $(CARGO_TARGET_DIR),target)
VENV := .venv
BIN := $(VENV)/bin
FRAMEWORKS := .venv-frameworks
TOOLS := target/tools
CANDLE := client-rs/examples/candle/Cargo.toml
PYTHON_SOURCES := python-client tests deploy
CARGO_DENY_VERSION := 0.20.2
CARGO_BOLERO_VERSION := 0.13.5
FUZZ_SECONDS := 3600
BUF := npx --yes @bufbuild/buf@1.75.0

VENV_STAMP := $(VENV)/.installed
CLIENT_STAMP := $(VENV)/.client
DEBUG_CLIENT_STAMP := $(VENV)/.debug-client
BENCH_STAMP := $(VENV)/.bench
CONVERGENCE_STAMP := $(VENV)/.convergence
DEPLOY_STAMP := $(VENV)/.deploy
DEPLOY_PACKAGES := prometheus podman runc catatonit netavark aardvark-dns iptables mmdebstrap
TORTURE_SEED := 1
FRAMEWORKS_STAMP := $(FRAMEWORKS)/.installed
FRAMEWORKS_CLIENT_STAMP := $(FRAMEWORKS)/.client
# The tests of `make test` that also say something on the newest PyTorch.
TORCH_TESTS := python-client/tests $(addprefix tests/python/test_,$(addsuffix .py,training resume validation replay open_budget fine_tuning rms_decay device_losses trainer_state migration interrupts public_names))
CLIENT_SOURCES := Cargo.lock $(shell find client-rs proto server/core python-client -name '*.rs' -o -name Cargo.toml) python-client/pyproject.toml

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: server-release $(CLIENT_STAMP)
	AUTOLRS_BIN=$(TARGET)/release/autolrs $(BIN)/python python-client/examples/demo.py

test: test-rust test-python

test-rust: server $(VENV_STAMP)
	if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run --workspace --exclude autolrs-python && cargo test --workspace --exclude autolrs-python --doc; \
	else cargo test --workspace --exclude autolrs-python; fi

test-python: server $(DEBUG_CLIENT_STAMP) $(TOOLS)/bin/helm
	AUTOLRS_BIN=$(TARGET)/debug/autolrs $(BIN)/python -m pytest -c python-client/pyproject.toml python-client/tests tests/python tests/deploy/test_chart.py

test-frameworks: server $(FRAMEWORKS_CLIENT_STAMP)
	AUTOLRS_BIN=$(TARGET)/debug/autolrs $(FRAMEWORKS)/bin/python -m pytest -c python-client/pyproject.toml $(TORCH_TESTS) tests/frameworks

test-deploy: server wheel $(CLIENT_STAMP) $(DEPLOY_STAMP) $(TOOLS)/bin/helm $(TOOLS)/crds/package.json
	AUTOLRS_BIN=$(TARGET)/debug/autolrs tests/deploy/sandbox $(BIN)/python -m pytest -c python-client/pyproject.toml tests/deploy

test-gpu: server $(FRAMEWORKS_CLIENT_STAMP)
	$(FRAMEWORKS)/bin/python -c 'import sys, torch; torch.cuda.is_available() or sys.exit("make test-gpu: PyTorch finds no CUDA GPU here, so nothing was tested")'
	AUTOLRS_TEST_DEVICE=cuda AUTOLRS_BIN=$(TARGET)/debug/autolrs $(FRAMEWORKS)/bin/python -m pytest -c python-client/pyproject.toml tests/python/test_device_losses.py

torture: server $(CLIENT_STAMP)
	AUTOLRS_BIN=$(TARGET)/debug/autolrs $(TARGET)/debug/autolrs-torture --kills 1000 --seed $(TORTURE_SEED)
	AUTOLRS_BIN=$(TARGET)/debug/autolrs $(BIN)/python tests/python/torture_torch.py --kills 50 --seed $(TORTURE_SEED)

check: $(DEBUG_CLIENT_STAMP) $(TOOLS)/bin/cargo-deny
	cargo fmt --all --check
	PYO3_PYTHON=$(abspath $(BIN))/python cargo clippy --workspace --all-targets --locked -- -D warnings
	PYO3_PYTHON=$(abspath $(BIN))/python RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
	cargo metadata --locked --format-version 1 --manifest-path $(CANDLE) >/dev/null
	if $(TOOLS)/bin/cargo-deny fetch db >/dev/null 2>&1; then $(TOOLS)/bin/cargo-deny check; \
	else echo "== the advisory database is out of reach: checking the rest"; $(TOOLS)/bin/cargo-deny check bans licenses sources; fi
	$(BIN)/ruff check --config python-client/pyproject.toml $(PYTHON_SOURCES)
	$(BIN)/ruff format --config python-client/pyproject.toml --check $(PYTHON_SOURCES)
	cd python-client && $(abspath $(BIN))/mypy
	$(BUF) lint

fuzz: $(TOOLS)/bin/cargo-bolero
	tests/fuzz/run $(FUZZ_SECONDS)

fmt: $(VENV_STAMP)
	cargo fmt --all
	$(BIN)/ruff check --config python-client/pyproject.toml --fix-only --quiet $(PYTHON_SOURCES)
	$(BIN)/ruff format --config python-client/pyproject.toml $(PYTHON_SOURCES)

bench: server-release $(CLIENT_STAMP) $(BENCH_STAMP)
	cargo build --locked --release -p autolrs-tests --bin autolrs-bench
	AUTOLRS_BIN=$(TARGET)/release/autolrs $(BIN)/python tests/bench/run.py $(TARGET)/release/autolrs-bench $(BENCH_ROWS)

soak: ROWS := $(if $(SOAK),target/soak,tests/bench)/soak
soak: server-release $(VENV_STAMP)
	cargo build --locked --release -p autolrs-tests --bin autolrs-soak
	mkdir -p $(dir $(ROWS))
	AUTOLRS_BIN=$(TARGET)/release/autolrs $(BIN)/python tests/bench/soak.py $(TARGET)/release/autolrs-soak $(ROWS).jsonl $(ROWS).svg $(SOAK)

bench-policies:
	cargo bench --locked --quiet -p autolrs-core --bench policies -- $(abspath $(BENCH_ROWS))

bench-convergence: export AUTOLRS_BIN = $(TARGET)/release/autolrs
bench-convergence: export OPENBLAS_NUM_THREADS = 1
bench-convergence: export PYTHONPATH = tests/bench
bench-convergence: server-release $(CLIENT_STAMP) $(CONVERGENCE_STAMP)
	$(BIN)/python -m convergence --rows tests/bench/convergence.jsonl
	$(BIN)/python -m convergence.robustness --rows tests/bench/robustness.jsonl

example-candle: server-release
	cargo build --locked --release --manifest-path $(CANDLE) --target-dir $(TARGET)/candle
	data=$$(mktemp -d); \
	port=$$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'); \
	$(TARGET)/release/autolrs serve --listen 127.0.0.1:$$port --http-listen off --log-level warn --data-dir $$data & \
	server=$$!; trap 'kill $$server; wait $$server; rm -r $$data' EXIT; \
	AUTOLRS_SERVER=http://127.0.0.1:$$port $(TARGET)/candle/release/autolrs-example-candle

docs: $(CLIENT_STAMP)
	PYO3_PYTHON=$(abspath $(BIN))/python RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
	$(BIN)/python python-client/docs/build.py target/docs

wheel: $(VENV_STAMP)
	rm -rf target/wheels
	$(BIN)/maturin build --release --sdist -i $(BIN)/python -o target/wheels -m python-client/Cargo.toml
	$(BIN)/twine check --strict target/wheels/*

package: wheel
	cargo package --locked -p autolrs-proto -p autolrs-core -p autolrs-client

clean:
	cargo clean
	rm -rf $(VENV) $(FRAMEWORKS) target

# With the tests: alone it would be built of crates with fewer features, and most of them twice.
server:
	cargo build --locked --workspace --exclude autolrs-python --tests

server-release:
	cargo build --locked --release -p autolrs-server

$(VENV_STAMP): python-client/requirements-dev.txt python-client/setup-venv
	python-client/setup-venv $(VENV)
	touch $@

$(BENCH_STAMP): $(VENV_STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check scikit-optimize==0.10.2 'numpy<1.25' 'scipy<1.12'
	touch $@

$(CONVERGENCE_STAMP): $(VENV_STAMP)
	python-client/setup-venv $(VENV) fortunes fortunes-min
	$(BIN)/pip install --quiet --disable-pip-version-check schedulefree==1.4.1 prodigyopt==1.1.2
	touch $@

$(DEPLOY_STAMP): $(VENV_STAMP) tests/deploy/requirements.txt
	python-client/setup-venv $(VENV) $(DEPLOY_PACKAGES)
	$(BIN)/pip install --quiet --disable-pip-version-check -r tests/deploy/requirements.txt
	touch $@

$(CLIENT_STAMP): $(VENV_STAMP) $(CLIENT_SOURCES)
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --release --quiet -m python-client/Cargo.toml
	rm -f $(DEBUG_CLIENT_STAMP)
	touch $@

# Its arithmetic is checked, and it is built sooner. An environment holds one of the two.
$(DEBUG_CLIENT_STAMP): $(VENV_STAMP) $(CLIENT_SOURCES)
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --quiet -m python-client/Cargo.toml
	rm -f $(CLIENT_STAMP)
	touch $@

# From Debian's Python, but with nothing of Debian's in it: its PyTorch is the other one that is tested.
$(FRAMEWORKS_STAMP): tests/frameworks/requirements.txt tests/frameworks/constraints.txt
	/usr/bin/python3 -m venv $(FRAMEWORKS)
	$(FRAMEWORKS)/bin/pip install --quiet --disable-pip-version-check -r tests/frameworks/requirements.txt
	touch $@

$(FRAMEWORKS_CLIENT_STAMP): $(FRAMEWORKS_STAMP) $(CLIENT_SOURCES)
	VIRTUAL_ENV=$(abspath $(FRAMEWORKS)) $(FRAMEWORKS)/bin/maturin develop --release --quiet -m python-client/Cargo.toml
	touch $@

$(TOOLS)/bin/helm: tests/deploy/get-helm $(VENV_STAMP)
	$(BIN)/python tests/deploy/get-helm $(TOOLS)/bin
	touch $@

# The schemas of cert-manager and of the Prometheus operator.
$(TOOLS)/crds/package.json: tests/deploy/crds.json
	mkdir -p $(@D)
	cp $< $@
	npm install --silent --no-fund --no-audit --prefix $(@D)

$(TOOLS)/bin/cargo-deny:
	cargo install --quiet --locked --root $(TOOLS) cargo-deny --version $(CARGO_DENY_VERSION) --no-default-features

$(TOOLS)/bin/cargo-bolero:
	cargo install --quiet --locked --root $(TOOLS) cargo-bolero --version $(CARGO_BOLERO_VERSION) --no-default-features --features libfuzzer
