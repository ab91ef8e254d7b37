# What a person types. `make test` is all that CI runs.
CARGO ?= cargo

export UNIMODEL_DATA ?= $(CURDIR)/data
# How long each decoder is asked of generated input.
export UNIMODEL_FUZZ_SECONDS ?= 5

.PHONY: build programs data demo test lint generate e2e bench bench-operator test-spark

build: ## Release programs in target/release/
	$(CARGO) build --release --bins

# With a test beside them, whose dependencies ask others for more features: else those are compiled once more for it.
programs: ## Programs as the tests have them, in target/debug/: built in a fraction of the time, optimised where it is hot
	$(CARGO) build --workspace --bins --test up

data: ## MovieLens-100K in ./data, with its digests checked
	@scripts/fetch-movielens.sh

demo: data programs ## The main job on real input: train on four tasks, publish, promote, evaluate, host, ask and change them
	@scripts/demo.sh

lint: ## Formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	scripts/render-manifests.sh --check

test: data lint ## Everything that must hold
	@scripts/install-chromium.sh
	VERSITYGW="$$(scripts/install-versitygw.sh)" && export VERSITYGW && $(CARGO) test --workspace
	$(CARGO) test --workspace --test clients -- --ignored
	e2e/run.sh --own

generate: ## Files that are made from code: JSON Schemas, contract listing, CRD, install manifests
	UNIMODEL_WRITE_SCHEMA=1 $(CARGO) test --workspace --test labels schema
	UNIMODEL_WRITE_SCHEMA=1 $(CARGO) test --workspace --test routes schema
	UNIMODEL_WRITE_CONTRACT=1 $(CARGO) test --workspace --test compatibility
	UNIMODEL_WRITE_CRD=1 $(CARGO) test --workspace --test definition the_file
	UNIMODEL_WRITE_RBAC=1 $(CARGO) test --workspace --test cluster the_charts
	scripts/render-manifests.sh

e2e: ## The cluster tests on a cluster of their own (needs root), or on yours by KUBECONFIG; TESTS="part of a name" for some
	e2e/run.sh $(TESTS)

bench: demo ## Ratios measured in one run each; see docs/benchmarks. Needs h2load
	$(CARGO) bench -p unimodel-model --bench store
	$(CARGO) bench -p unimodel-server --bench serving
	python3 -m venv target/bench-python
	target/bench-python/bin/pip install -q -r server/benches/network/requirements.txt -r gateway/benches/hop/requirements.txt
	$(CARGO) build --release --manifest-path server/benches/stock-candle/Cargo.toml --target-dir target/stock-candle
	PYTHON=$(CURDIR)/target/bench-python/bin/python CANDLE=$(CURDIR)/target/stock-candle/release/stock-candle \
		$(CARGO) bench -p unimodel-server --bench network
	ENVOY=$(CURDIR)/target/bench-python/bin/envoy $(CARGO) bench -p unimodel-gateway --bench hop

bench-operator: ## The operator with 100, 300 and 1,000 objects on a real control plane with played nodes (needs root)
	e2e/bench-operator.sh

test-spark: build ## The same SQL on Spark finds the same rows (downloads 456 MB)
	scripts/test-spark.sh
