# The default lists the targets. Rust, Go, Git (with perl) and a C compiler are all they need.
SHELL := /bin/bash
# as the shell reads it: it may lie anywhere, whatever is in its name
TARGET := "$${CARGO_TARGET_DIR:-target}"
# where there is none, as in some containers: Go and the caches need one
export HOME := $(or $(HOME),$(shell unset HOME; echo ~))
# one set of features and one profile for the demo, the generator and the tests, so that nothing is built twice
BUILD := cargo build --locked --bins --examples
INTO ?= .
# where OpenSSL cannot be built in the usual one
ELSEWHERE := $(shell .ci/target)
ifneq ($(ELSEWHERE),)
export CARGO_TARGET_DIR := $(ELSEWHERE)
endif
CHART := charts/sekuire-policy-controller

.PHONY: help demo test check generate manifests bench image sbom e2e

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## the main job on a real API server, from commit to verdict; KEEP=1 leaves it running
	@KUBEBUILDER_ASSETS=$$(tests/cluster/build.sh) && export KUBEBUILDER_ASSETS && \
	$(BUILD) && KEEP=$(KEEP) $(TARGET)/debug/examples/demo

test: ## all tests, on a real API server; prints how many ran
	@.ci/test

check: ## format, lints, documentation, the pure core alone, generated files, dependencies
	@.ci/check

generate: ## write crds/ and the chart's copy from the Rust types, and docs/cli.md from the commands
	@$(BUILD) --quiet && $(TARGET)/debug/sekuire crds --dir $(INTO)/crds && \
	mkdir -p $(INTO)/$(CHART)/files/crds && cp $(INTO)/crds/*.yaml $(INTO)/$(CHART)/files/crds/ && \
	mkdir -p $(INTO)/docs && $(TARGET)/debug/sekuire manual > $(INTO)/docs/cli.md

manifests: ## write charts/install.yaml, the chart as plain YAML
	@.ci/manifests

bench: ## measure decision, webhook and the way from a push to what is enforced, and print ratios
	@KUBEBUILDER_ASSETS=$$(tests/cluster/build.sh) && export KUBEBUILDER_ASSETS && .ci/static cargo bench --locked --bench admission --bench push

image: ## the image, without a Docker daemon, as target/image/sekuire.tar; TAG= names its tag
	@TAG=$(TAG) .ci/image

sbom: ## the bill of materials of the program, as target/sbom/sekuire.cdx.json
	@.ci/sbom

e2e: ## chart and image on a real node, under load; as root, or on the cluster of E2E_KUBECONFIG
	@KUBEBUILDER_ASSETS=$$(tests/cluster/build.sh) && export KUBEBUILDER_ASSETS && \
	$(BUILD) && $(TARGET)/debug/examples/e2e
