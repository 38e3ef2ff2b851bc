# `make` lists the targets. `make run` and `make test` need Go and make alone: they generate nothing and install no tool.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := help
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules --no-print-directory

DATA ?=
MODEL ?=
BASE ?=
COUNT ?= 6
DURATION ?= 10m
SEED ?= 1
# What --version says; Go itself finds no commit in a worktree, and none with GOFLAGS=-buildvcs=false.
COMMIT ?= $(shell git describe --always --abbrev=40 --exclude='*' --dirty=+changes 2>/dev/null)
COMPOSE ?= docker compose
ROUNDS ?= 1000
FUZZTIME ?= 10s
FUZZ ?=
GOVULNDB ?=
VERSION ?=
KEY ?=
TAG ?=

# The micro-benchmarks of `make bench`: what runs per quote, per vector, per request, and per million rows.
HOT := ^Benchmark(LiveObserve|Log|Observe|Score|Sampled|Detach|Wait|Skip|Batch|Record|Breaker|Encode|Decode|Predict|Decide|BatchPredict|Publish|FitMillionRows)$$
HOT_PACKAGES := ./pkg/feature ./pkg/featurelog ./pkg/drift ./pkg/model ./pkg/trees ./pkg/shadow ./pkg/train \
	./services/executor/internal/decision ./services/executor/internal/rollout ./services/ml-engine/internal/scoring

# What buf generates, and by which templates.
TEMPLATES := buf.gen.yaml pkg/oip/buf.gen.yaml
GENERATED := proto/gen pkg/oip/gen docs/reference/contract

BIN := bin
TOOLS := $(BIN)/tools
PROGRAMS := ./services/ml-engine ./services/executor ./services/greenlight
LAB := $(BIN)/greenlight-lab
# Tests, the programs that they run, and the linker take a fifth less CPU time with it, and up to twice the memory.
GOGC ?= 400
BUILD = GOGC=$(GOGC) go build -buildvcs=auto -ldflags "-X github.com/greenlight-ml/greenlight/pkg/telemetry.commit=$(COMMIT)"
# Tests that run the programs take them from bin/. Vetting is left to lint, which runs every analyzer. A test is linked without what
# only a debugger needs (-s -w), and the NATS server, which only tests run, is compiled faster without inlining (-l).
TEST = GOGC=$(GOGC) GREENLIGHT_BIN='$(CURDIR)/$(BIN)' go test -vet=off -timeout 20m -ldflags='-s -w' -gcflags=github.com/nats-io/nats-server/v2/server=-l
# Packages to test: services/greenlight first, whose scripts take longest.
TESTED = ./services/greenlight $(addsuffix /...,$(filter-out %/lab,$(WORKSPACE)))
# Deferred: asked of the workspace when a target needs them. The root has no module, so `./...` there means nothing.
WORKSPACE = $(shell go list -m -f '{{.Dir}}')

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Programs.

.PHONY: build
build: ## Build the three programs into bin/
	$(BUILD) -o $(BIN)/ $(PROGRAMS)

.PHONY: lab
lab: build ## Build bin/greenlight-lab, which tests and measures them
	$(BUILD) -o $(LAB) ./services/greenlight/lab

.PHONY: run
run: build ## See it work, from data to verdict; DATA=file or folder, MODEL=version of the model under trial
	$(BIN)/greenlight run $(if $(DATA),--data '$(DATA)') $(if $(MODEL),--model '$(MODEL)')

.PHONY: bench
bench: lab ## Measure the price of the shadow, and of the numerics
	@mkdir -p var
	$(LAB) bench --json var/bench.json
	go test -run '^$$' -bench '$(HOT)' -benchtime 300ms -benchmem $(HOT_PACKAGES)

.PHONY: scale
scale: lab ## Measure how costs grow with batches, calls, replicas, symbols and models; draws var/scale.svg
	@mkdir -p var
	$(LAB) scale --json var/scale.json --figure var/scale.svg

.PHONY: bench-compare
bench-compare: $(TOOLS)/benchstat ## Compare the micro-benchmarks with those of another revision: BASE=<rev>, COUNT=6
	@BASE='$(BASE)' COUNT='$(COUNT)' deploy/tools/bench-compare $(TOOLS)/benchstat '$(HOT)' $(HOT_PACKAGES)

.PHONY: scenarios
scenarios: lab ## Check how a canary reacts to faults, and measure its statistical tests; some minutes
	@mkdir -p var/scenarios
	$(BIN)/greenlight train --models var/scenarios/models --evidence var/scenarios/offline $(if $(DATA),--data '$(DATA)')
	$(BIN)/greenlight eval --evidence var/scenarios/offline
	$(LAB) scenarios --shadow-timeout 1s --models var/scenarios/models --evidence var/scenarios/offline $(if $(DATA),--data '$(DATA)')
	$(LAB) power

.PHONY: month
month: build ## Write the reports of a simulated month with an episode of drift, in var/month
	rm -rf var/month
	GREENLIGHT_MONTH='$(CURDIR)/var/month' go test -count=1 -v -run '^TestMonth$$' ./services/greenlight/internal/agent
	$(BIN)/greenlight evidence verify --evidence var/month/evidence/ml
	$(BIN)/greenlight evidence render --evidence var/month/evidence/ml

.PHONY: bench-page
bench-page: ## Measure what ten viewers of the status page cost executor
	go test -run '^$$' -bench Viewers -benchtime 6x ./services/greenlight/internal/deploytest

.PHONY: faults
faults: lab ## Inject every fault between executor and ml-engine, and write docs/faults.md; some twenty minutes
	$(LAB) faults --json var/faults.json --markdown docs/faults.md

.PHONY: soak
soak: lab ## Run the pair with faults, swaps, canaries and restarts at random; DURATION=10m SEED=1
	$(LAB) chaos --duration '$(DURATION)' --seed '$(SEED)' --json var/chaos.json

.PHONY: fleet
fleet: lab ## Show a canary of four executors over NATS, while a NATS server and the canary are killed; about a minute
	$(LAB) fleet demo

.PHONY: fleet-proof
fleet-proof: lab ## Prove that nothing keeps a group above 0 % without its controller: 1,000 simulated schedules, 20 on NATS servers, planted defects
	@mkdir -p var
	$(LAB) fleet --seeds 1000 --json var/fleet.json
	$(LAB) fleet --nats --seeds 20 --json var/fleet-nats.json
	GREENLIGHT_PROOF=1 $(TEST) -count=1 -run TestMutantsAreFound ./services/greenlight/lab/internal/fleetsim

.PHONY: fleet-scale
fleet-scale: lab ## Measure what groups of 10, 100 and 1,000 executors cost
	@mkdir -p var
	$(LAB) fleet scale --json var/fleet-scale.json

# Checks.

.PHONY: test
test: build linkcheck ## Test all modules but the lab; GREENLIGHT_DATA=folder adds the tests on market data
	@# Many tests wait: more of them run than there are processors.
	cpus=$$(getconf _NPROCESSORS_ONLN); $(TEST) -p $$((cpus + 1)) -parallel $$((2 * cpus)) $(TESTED)

.PHONY: lab-test
lab-test: lab ## Test greenlight-lab: bench, faults, chaos, scenarios, power, calibrate, fleet
	$(TEST) ./services/greenlight/lab/...

.PHONY: race
race: GOGC = 100
race: ## Run the tests under the race detector, except those that start the programs
	$(TEST) -race -short $(TESTED)

.PHONY: crash
crash: ## Kill every writer of files at random moments and show what was lost; ROUNDS=1000 kills in all, SEED=1
	@deploy/tools/crash '$(ROUNDS)' '$(SEED)'

.PHONY: fuzz
fuzz: ## Fuzz every reader of outside bytes, FUZZTIME=10s each, and show how far each came; FUZZ=name picks some
	@deploy/tools/fuzz '$(FUZZTIME)' '$(FUZZ)'

.PHONY: linkcheck
linkcheck: ## Prove that linking the contract brings gRPC and Protocol Buffers alone
	GOWORK=off go -C deploy/linkcheck test -vet=off -count=1 ./...

.PHONY: deploy-check
deploy-check: build ## Check docker-compose.yml and the Kubernetes manifests with the parsers of their tools, their flags, and releases
	GREENLIGHT_BIN='$(CURDIR)/$(BIN)' GOWORK=off go -C deploy/check test -vet=off -count=1 ./...

.PHONY: interop
interop: ## Check that the libraries of Sigstore and in-toto accept our signatures
	GOWORK=off go -C deploy/interop test -count=1 ./...

.PHONY: lint
lint: lint-go lint-proto check-generate breaking tidy-check rules deploy-check ## Run every static check

.PHONY: lint-go
lint-go: $(TOOLS)/golangci-lint
	$(TOOLS)/golangci-lint run $(addsuffix /...,$(WORKSPACE))
	$(TOOLS)/golangci-lint run deploy/docker/healthprobe/main.go
	cd deploy/linkcheck && GOWORK=off $(CURDIR)/$(TOOLS)/golangci-lint run ./...
	cd deploy/check && GOWORK=off $(CURDIR)/$(TOOLS)/golangci-lint run ./...
	cd deploy/interop && GOWORK=off $(CURDIR)/$(TOOLS)/golangci-lint run ./...
	cd deploy/tools/protoc && GOWORK=off $(CURDIR)/$(TOOLS)/golangci-lint run ./...

.PHONY: lint-proto
lint-proto: $(TOOLS)/buf
	GOWORK=off go -C proto build ./... # with the oldest Go and gRPC that proto/go.mod allows
	$(TOOLS)/buf lint
	$(TOOLS)/buf format --diff --exit-code

.PHONY: check-generate
check-generate: generators ## Check that the committed generated code is what the contract generates
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	for template in $(TEMPLATES); do $(TOOLS)/buf generate --template "$$template" --output "$$fresh"; done; \
	for gen in $(GENERATED); do diff -ru "$$fresh/$$gen" "$$gen" || { echo "$$gen is stale: run make generate" >&2; exit 1; }; done

.PHONY: rules
rules: ## Check and test the Prometheus rules; needs promtool (Debian: prometheus)
	promtool check rules deploy/prometheus/rules/*.yml
	promtool test rules deploy/prometheus/tests/*.yml

.PHONY: node-client
node-client: ## Install what the example clients for Node need; make test then runs them too
	npm ci --prefix deploy/nodeclient --ignore-scripts --no-audit --no-fund

.PHONY: vuln
vuln: build $(TOOLS)/govulncheck ## Look for known vulnerabilities in the programs; needs the database (GOVULNDB=URL)
	@for program in $(notdir $(PROGRAMS)); do \
		status=0; $(TOOLS)/govulncheck $(if $(GOVULNDB),-db '$(GOVULNDB)') -mode binary "$(BIN)/$$program" || status=$$?; \
		if [ $$status = 1 ]; then echo "$$program was not checked: if the database cannot be reached, give a copy of it: make vuln GOVULNDB=URL (https://... or file:///...)" >&2; fi; \
		if [ $$status != 0 ]; then exit $$status; fi; \
	done

.PHONY: sbom
sbom: build $(TOOLS)/cyclonedx-gomod ## List the modules of each program in sbom/, as CycloneDX
	@mkdir -p sbom; for program in $(notdir $(PROGRAMS)); do \
		$(TOOLS)/cyclonedx-gomod bin -json -noserial -notimestamp -version "$$(git describe --tags --always --dirty 2>/dev/null || echo unknown)" -output "sbom/$$program.cdx.json" "$(BIN)/$$program"; \
		echo "sbom/$$program.cdx.json"; \
	done

.PHONY: release
release: $(TOOLS)/cyclonedx-gomod ## Build the archives of VERSION=v1.2.3 in var/release; KEY=private.pem signs them, TAG=1 tags the commit
	@deploy/tools/release $(if $(TAG),--tag) $(if $(KEY),--key '$(KEY)') $(TOOLS)/cyclonedx-gomod '$(VERSION)'

.PHONY: breaking
breaking: $(TOOLS)/buf ## Check the contract against the last release, or else the base of this branch
	@deploy/tools/breaking $(TOOLS)/buf

.PHONY: tidy-check
tidy-check: ## Check that every go.mod is tidy
	@# Not those of the tools: tidying them would download what the tests of their dependencies need.
	@status=0; for dir in $(WORKSPACE) $(CURDIR)/deploy/linkcheck $(CURDIR)/deploy/check $(CURDIR)/deploy/interop; do \
		GOWORK=off go -C "$$dir" mod tidy -diff || { status=1; echo "$$dir: run GOWORK=off go mod tidy there" >&2; }; \
	done; exit $$status

# Changes to the tree.

.PHONY: generate
generate: generators ## Generate the Go and the reference of the contract, and the Go of the Open Inference Protocol
	for template in $(TEMPLATES); do $(TOOLS)/buf generate --template "$$template" --clean; done

.PHONY: generate-deploy
generate-deploy: ## Generate the PrometheusRule of Kubernetes from the rules
	GOWORK=off go -C deploy/check test -count=1 -run TestPrometheusRule . -update

.PHONY: reference
reference: ## Generate docs/reference from the running programs
	go test -count=1 -run 'TestREADME/reference' ./services/greenlight -update
	go test -count=1 -run 'TestOutputReference' ./services/greenlight/internal/cli -update
	go test -count=1 -run 'TestReference' ./services/greenlight/lab/internal/command -update

.PHONY: fmt
fmt: $(TOOLS)/golangci-lint $(TOOLS)/buf ## Format Go and protos
	$(TOOLS)/golangci-lint fmt $(WORKSPACE) deploy/linkcheck deploy/check deploy/interop deploy/tools/protoc deploy/docker/healthprobe
	$(TOOLS)/buf format --write

.PHONY: clean
clean: ## Remove what was built, except the tools
	rm -f $(addprefix $(BIN)/,$(notdir $(PROGRAMS)))

# Pinned tools. Each is built when it is missing, and again when the go.mod that pins it changes.

.PHONY: tools generators
tools: generators $(TOOLS)/golangci-lint $(TOOLS)/grpcurl $(TOOLS)/benchstat ## Build the pinned tools into bin/tools/
generators: $(TOOLS)/buf $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-go-grpc $(TOOLS)/protoc-gen-pages

$(TOOLS)/buf:                package := github.com/bufbuild/buf/cmd/buf
$(TOOLS)/grpcurl:            package := github.com/fullstorydev/grpcurl/cmd/grpcurl
$(TOOLS)/benchstat:          package := golang.org/x/perf/cmd/benchstat
$(TOOLS)/protoc-gen-go:      package := google.golang.org/protobuf/cmd/protoc-gen-go
$(TOOLS)/protoc-gen-go-grpc: package := google.golang.org/grpc/cmd/protoc-gen-go-grpc
$(TOOLS)/protoc-gen-pages:   package := ./protoc-gen-pages
$(TOOLS)/govulncheck:        package := golang.org/x/vuln/cmd/govulncheck
$(TOOLS)/cyclonedx-gomod:    package := github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod
$(TOOLS)/golangci-lint:      package := github.com/golangci/golangci-lint/v2/cmd/golangci-lint

define build-tool
GOWORK=off go -C $(<D) build -o $(CURDIR)/$@ $(package)
@touch $@
endef

$(TOOLS)/buf $(TOOLS)/grpcurl $(TOOLS)/benchstat: deploy/tools/go.mod
	$(build-tool)
$(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-go-grpc: deploy/tools/protoc/go.mod
	$(build-tool)
$(TOOLS)/protoc-gen-pages: deploy/tools/protoc/go.mod deploy/tools/protoc/protoc-gen-pages/main.go
	$(build-tool)
$(TOOLS)/golangci-lint: deploy/tools/lint/go.mod
	$(build-tool)
$(TOOLS)/govulncheck $(TOOLS)/cyclonedx-gomod: deploy/tools/security/go.mod
	$(build-tool)

# Containers.

.PHONY: up
up: ## Start the pair with a load, the agent, Prometheus and Grafana in containers
	$(COMPOSE) up --detach --build

.PHONY: down
down: ## Stop the containers and remove them; their volumes, with models, state and evidence, stay
	$(COMPOSE) down

.PHONY: logs
logs: ## Follow the logs of the containers
	$(COMPOSE) logs --follow --tail 50

.PHONY: image-check
image-check: ## Build the images and check that they are small, static and not root
	deploy/docker/image-check
