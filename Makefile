# Copyright The podproc Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Needs Debian 12, root, Go, git and make; installs the rest itself (deps).

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory
VERSION     := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# Static binaries: one for every image, and for a VM without libraries.
export CGO_ENABLED := 0
# The same flags for all, or everything is compiled twice. git refuses a checkout
# of another user, and go then does not stamp: VERSION is enough.
export GOFLAGS := $(shell go env GOFLAGS) -trimpath -buildvcs=false
export GIT_CONFIG_COUNT := 1
export GIT_CONFIG_KEY_0 := safe.directory
export GIT_CONFIG_VALUE_0 := *

# -count=1: what a test says of a kernel is not true for ever, so none is cached.
# -p 1: packages one after the other, as tests judge CPU time on few CPUs.
GO_TEST := go test -count=1 -p 1
RINGS   := test-pure test-node test-vm test-deploy test-cluster test-nodes

.PHONY: help deps modules build run test $(RINGS) soak bench lint manifests image vm cluster cluster-down

help: ## Show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

deps: ## Install the Debian packages of test/packages.txt that are missing
	@test/deps.sh

modules: deps ## Download all Go modules, for one lost connection is not to end the tests
	@test/modules.sh

build: ## Build the static binaries into bin/
	@mkdir -p bin
	go build -ldflags '-s -w -X main.version=$(VERSION)' -o bin/ ./cmd/...

run: build ## Show a 256 MiB, 1 CPU container beside this machine
	@test/deps.sh procps python3
	@test/run.sh

test: deps modules build ## Run every ring of tests, one after the other
	@for ring in $(RINGS); do echo "== $$ring"; t=$$SECONDS; $(MAKE) $$ring; echo "== $$ring took $$((SECONDS - t)) s"; done

test-pure: lint ## Linters, and the tests beside the code
	@go build ./... # with all CPUs, before -p 1 would build one by one
	$(GO_TEST) -short $$(go list ./... | grep -vE '/test/(node|bench|vm|deploy|cluster)')

test-node: deps build ## This machine's kernel: real mounts, cgroups and consumers
	$(GO_TEST) -timeout 20m ./test/node/... ./test/bench/...

test-vm: deps build ## The same tests on cgroup v2, in a VM
	$(GO_TEST) -timeout 40m ./test/vm/...
	go run ./test/vm -test ./fusefs ./fusefs/cgroup ./fusefs/device ./fusefs/mounts ./test/node

test-deploy: deps build ## Chart, manifests and image
	$(GO_TEST) -timeout 30m ./test/deploy/...

test-cluster: deps build ## A real Kubernetes control plane, and the webhook in it
	$(GO_TEST) -timeout 45m $$(go list ./test/cluster/... | grep -v /test/cluster/nodes)

test-nodes: deps build ## podproc on a real Kubernetes: a node on this kernel, and one on cgroup v2
	$(GO_TEST) -timeout 50m -v ./test/cluster/nodes

soak: deps build ## The long forms of the tests, and fuzzing; takes hours
	PODPROC_SOAK=1 $(GO_TEST) -timeout 4h ./fusefs/... ./webhook/... ./test/node/... ./test/cluster/...
	for mode in v2 v1 hybrid; do PODPROC_SOAK=1 go run ./test/vm -cgroup $$mode -test -timeout 3h; done
	@test/fuzz.sh

bench: deps build ## Cost of reads beside procfs, a constant go-fuse file and LXCFS
	go run ./test/bench

lint: ## gofmt, go vet, go mod tidy, staticcheck
	@bad=$$(gofmt -l certs cmd deploy fusefs test webhook); [ -z "$$bad" ] || { echo "gofmt: $$bad"; exit 1; }
	go vet ./...
	go mod tidy -diff
	go tool -modfile=test/tools/go.mod staticcheck -checks all,-ST1000,-ST1003 ./... # main packages need no comment; the kernel's spelling of names is kept

manifests: ## Render deploy/*.yaml from deploy/chart
	go run ./test/deploy/render

image: deps ## The image of each architecture, into bin/
	go run ./test/image/build

vm: deps build ## A shell in the cgroup v2 VM
	@go run ./test/vm -shell

cluster: deps build ## Start the test cluster and leave it running
	go run ./test/cluster/up

cluster-down: ## Stop it
	go run ./test/cluster/up -down
