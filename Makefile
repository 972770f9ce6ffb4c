# Every command of the project. `make run` and `make test` need Python 3.11 or
# later, make and a package index; they set up everything else.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3.14 python3,$(shell command -v $(name))))
BIN := .venv/bin
OUT ?= generated
# Or buf makes a cache wherever it is called, if HOME is empty.
export BUF_CACHE_DIR := $(CURDIR)/.venv/buf
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: run test check bench overload soak tools fuzz format generate docs wheel lock clean

run: .venv/runtime
	karmo-sidecar dev

test: .venv/complete
	coverage erase
	coverage run -m pytest -n auto --dist loadfile --durations 20
	coverage combine --quiet
	coverage report

check: .venv/complete
	ruff format --check .
	ruff check .
	mypy
	buf format --diff --exit-code
	buf lint
	buf breaking --against proto/released.binpb
	pytest -q tests/test_generated.py
	python docs/problem_examples.py --check
	python docs/layout_picture.py --check
	python docs/settings_table.py --check

# About four minutes; what it prints depends on the machine, the ratios less so.
# `make bench BASE=<commit>` measures the sidecar of that commit too.
bench: .venv/complete
	python -m benchmarks.peers $(if $(BASE),--base $(BASE))
	python benchmarks/transcoding.py

# About a minute.
overload: .venv/complete
	python -m benchmarks.overload

# What takes long or needs a quiet machine: minutes of load with kills, restarts, real proxies.
soak: .venv/complete
	pytest -q -s -n 0 -m soak

# What needs npm or Java, and installs packages of theirs.
tools: .venv/complete
	pytest -q -n 0 -m tools

# Half a minute for each parser; what it finds is left in tests/fuzz/corpus.
fuzz: .venv/complete
	for target in tests/fuzz/corpus/*; do python -m tests.fuzz.run $$(basename $$target) 30 || exit 1; done

format: .venv/complete
	ruff format .
	ruff check --fix .
	buf format --write

# The one recipe for generated code; tests/test_generated.py runs it with
# another OUT and compares.
PROTOS = $(shell cd proto && find karmo -name '*.proto' | sort)
PROTOC = $(BIN)/python -m grpc_tools.protoc -Iproto

generate: .venv/complete
	mkdir -p $(OUT)/karmo
	$(PROTOC) --python_out=$(OUT) --mypy_out=quiet:$(OUT) $(PROTOS)
	$(PROTOC) --grpc_python_out=$(OUT) --mypy_grpc_out=quiet:$(OUT) $(filter %_service.proto,$(PROTOS))
	$(PROTOC) --descriptor_set_out=$(OUT)/karmo/descriptors.binpb --include_imports --include_source_info \
	  $(PROTOS) google/rpc/error_details.proto
	$(BIN)/python proto/own_comments.py $(OUT)/karmo/descriptors.binpb
	touch $(OUT)/karmo/py.typed

wheel: .venv/complete
	python -m build --wheel --no-isolation

docs: .venv/complete
	python docs/problem_examples.py
	python docs/layout_picture.py
	python docs/settings_table.py
	karmo-sidecar openapi --public-url https://api.example.com > docs/openapi.json

# Pinned with hashes and without the address of any index.
lock: .venv/complete
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --quiet --upgrade \
	  --custom-compile-command 'make lock' --extra dev --group run pyproject.toml -o requirements.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --quiet --upgrade \
	  --custom-compile-command 'make lock' --extra dev --group test --group bench --group check --group build pyproject.toml \
	  -c requirements.txt -o requirements-dev.txt

clean:
	rm -rf .venv proto/google tests/oidc_provider/node_modules tests/openapi/npm/node_modules tests/openapi/.downloads .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* bench.json dist

# Set-up, in two sizes: what runs the product, and what also builds and tests it.
# The files of googleapis-common-protos that our schema imports, linked to where
# protoc and buf look for them.
GOOGLEAPIS = google/api/annotations.proto google/api/field_behavior.proto google/api/http.proto google/rpc/code.proto google/rpc/error_details.proto
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.venv/bin/python:
	$(if $(PYTHON),,$(error Python 3.11 or later is needed; name it by `make PYTHON=...`))
	$(PYTHON) -m venv .venv

.venv/runtime: requirements.txt pyproject.toml | .venv/bin/python
	$(INSTALL) --require-hashes -r requirements.txt
	$(INSTALL) --no-deps -e .
	touch $@

.venv/complete: requirements-dev.txt pyproject.toml | .venv/bin/python
	$(INSTALL) --require-hashes -r requirements-dev.txt
	$(INSTALL) --no-deps --no-build-isolation -e .
	rm -rf proto/google
	mkdir -p proto/google/api proto/google/rpc
	site=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
	  for proto in $(GOOGLEAPIS); do ln -s $$site/$$proto proto/$$proto; done
	touch $@ .venv/runtime
