# Every command of the project. `make run` and `make test` need Python 3.11 or
# later, make and a package index; they set up everything else.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3.14 python3,$(shell command -v $(name))))
BIN := .venv/bin
OUT ?= generated
CLIENT ?= clients/python/src/karmo_auth_client/generated
# Or buf makes a cache wherever it is called, if HOME is empty.
export BUF_CACHE_DIR := $(CURDIR)/.venv/buf
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Images of Python set it. Without bytecode the tests compile themselves in each worker, and the
# sidecar in each of the processes that they start: that is a fifth of the time of the tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test check bench overload replicas soak tools fuzz format generate docs wheel image sbom lock clean

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
	python deploy/grafana/dashboard.py --check

# About five minutes; what it prints depends on the machine, the ratios less so.
# `make bench BASE=<commit>` measures the sidecar of that commit too.
bench: .venv/complete
	python -m benchmarks.peers $(if $(BASE),--base $(BASE))
	python benchmarks/transcoding.py
	python benchmarks/streams.py
	python benchmarks/metrics.py
	python benchmarks/throttle.py
	python benchmarks/access_line.py

# About a minute.
overload: .venv/complete
	python -m benchmarks.overload

# About a minute; one and two processes behind haproxy, which must be installed.
replicas: .venv/complete
	python -m benchmarks.replicas

# What takes long or needs a quiet machine: minutes of load with kills, restarts, real proxies.
soak: .venv/complete
	pytest -q -s -n 0 -m soak

# Tests of what is no part of the product: clients and samples by npm, Java and Go, pages in
# Chromium, the image and the manifests, benchmarks.
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
# another OUT and CLIENT, and compares.
PROTOS = $(shell cd proto && find karmo -name '*.proto' | sort)
PROTOC = $(BIN)/python -m grpc_tools.protoc -Iproto
MODULES = --python_out=$(1) --mypy_out=quiet:$(1) $(PROTOS)
STUBS = --grpc_python_out=$(1) --mypy_grpc_out=quiet:$(1) $(filter %_service.proto,$(PROTOS))
# The client's code is a package of its own, with a descriptor pool of its own
# (docs/decisions/0023-client-package.md).
OWN_PACKAGE = -e 's/^from google.protobuf import descriptor_pool as /from karmo_auth_client import _pool as /' \
  -e 's/^from google.protobuf.internal import builder as /from karmo_auth_client import _builder as /' \
  -e 's/^from karmo\./from karmo_auth_client.generated.karmo./' \
  -e "s/DESCRIPTOR, 'karmo\./DESCRIPTOR, 'karmo_auth_client.generated.karmo./"

generate: .venv/complete
	mkdir -p $(OUT)/karmo $(CLIENT)
	$(PROTOC) $(call MODULES,$(OUT))
	$(PROTOC) $(call STUBS,$(OUT))
	$(PROTOC) --descriptor_set_out=$(OUT)/karmo/descriptors.binpb --include_imports --include_source_info \
	  $(PROTOS) google/rpc/error_details.proto
	$(BIN)/python proto/own_comments.py $(OUT)/karmo/descriptors.binpb
	touch $(OUT)/karmo/py.typed
	$(PROTOC) $(call MODULES,$(CLIENT))
	$(PROTOC) $(call STUBS,$(CLIENT))
	find $(CLIENT)/karmo -name '*_pb2*.py*' -exec sed -i.orig $(OWN_PACKAGE) {} +
	find $(CLIENT)/karmo -name '*.orig' -exec rm {} +

wheel: .venv/complete
	python -m build --wheel --no-isolation
	python -m build --wheel --no-isolation --outdir dist clients/python

# What goes into the image: our wheel and the lock, and with OFFLINE=1 also the locked wheels, for
# the Python of the base image. `make image BUILDER='buildah bud'` needs no Docker.
IMAGE ?= karmo-sidecar
BASE ?= python:3.13-slim
BASE_PYTHON ?= $(or $(patsubst python:%-slim,%,$(filter python:%-slim,$(BASE))),3.11)
BUILDER ?= docker build
image: .venv/complete
	rm -rf dist/image
	mkdir -p dist/image/wheels
	python -m build --wheel --no-isolation --outdir dist/image
	cp deploy/requirements.txt dist/image
	# pip evaluates markers for the Python that runs it, and the base may have an older patch release.
	sed "s/ ; python_full_version < [^\\]*/ /" deploy/requirements.txt > dist/download.txt
	$(if $(OFFLINE),pip download --quiet --disable-pip-version-check --require-hashes --no-deps \
	  --only-binary :all: --python-version $(BASE_PYTHON) --dest dist/image/wheels \
	  --requirement dist/download.txt)
	$(BUILDER) --file deploy/Dockerfile --tag $(IMAGE) --build-arg BASE=$(BASE) \
	  $(if $(OFFLINE),--build-arg PIP_NO_INDEX=1) dist/image

# A bill of materials (CycloneDX) of the packages in the image. The generator has a lock of its own,
# because it needs as many packages as the product.
sbom: .venv/complete
	rm -rf dist/sbom
	mkdir -p dist/sbom
	python -m venv --without-pip dist/sbom/product
	uv pip install --quiet --python dist/sbom/product --require-hashes -r deploy/requirements.txt
	python -m venv --without-pip dist/sbom/generator
	uv pip install --quiet --python dist/sbom/generator --require-hashes -r deploy/sbom/requirements.txt
	dist/sbom/generator/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application \
	  --output-reproducible --output-file dist/karmo-sidecar.cdx.json dist/sbom/product/bin/python

docs: .venv/complete
	python docs/problem_examples.py
	python docs/layout_picture.py
	python docs/settings_table.py
	karmo-sidecar openapi --public-url https://api.example.com > docs/openapi.json
	python deploy/grafana/dashboard.py

# Pinned with hashes and without the address of any index.
lock: .venv/complete
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --quiet --upgrade \
	  --custom-compile-command 'make lock' --extra dev --extra shared-limits --group run pyproject.toml -o requirements.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --quiet --upgrade \
	  --custom-compile-command 'make lock' --extra dev --extra otel --extra shared-limits --group test --group bench --group check --group build pyproject.toml \
	  -c requirements.txt -o requirements-dev.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --quiet \
	  --custom-compile-command 'make lock' --extra shared-limits pyproject.toml -c requirements.txt -o deploy/requirements.txt
	for lock in deploy/sbom/requirements tests/deploy/kubernetes_validate; do \
	  uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --quiet --upgrade \
	    --custom-compile-command 'make lock' $$lock.in -o $$lock.txt || exit 1; \
	done

clean:
	rm -rf .venv proto/google tests/oidc_provider/node_modules tests/samples/node/node_modules tests/samples/.downloads tests/rest/browser/node_modules tests/openapi/npm/node_modules tests/openapi/.downloads tests/grpc_tools/node/node_modules tests/grpc_tools/.downloads clients/typescript/node_modules clients/*/gen .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* bench.json dist

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
	$(INSTALL) --no-deps -e . -e clients/python
	touch $@

.venv/complete: requirements-dev.txt pyproject.toml | .venv/bin/python
	$(INSTALL) --require-hashes -r requirements-dev.txt
	$(INSTALL) --no-deps --no-build-isolation -e . -e clients/python
	rm -rf proto/google
	mkdir -p proto/google/api proto/google/rpc
	site=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
	  for proto in $(GOOGLEAPIS); do ln -s $$site/$$proto proto/$$proto; done
	touch $@ .venv/runtime
