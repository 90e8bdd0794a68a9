# pgha: build, test and show. `make` alone prints what there is.
#
# `make test` and `make demo` do all set-up themselves and need nothing but a Debian 12 with Go.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules
.NOTPARALLEL:

# Root's PATH often lacks Go's own directory and the administrators' ones.
export PATH := $(PATH):/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin

# One set of flags for everything, so that build, tests and linter share one build cache.
export GOFLAGS := -trimpath -buildvcs=false
export CGO_ENABLED := 0

# The programs say the version that Go stamps into them from git, where there is a commit at all.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
STAMP := $(shell git rev-parse --quiet --verify HEAD >/dev/null 2>&1 && echo true || echo false)
COMMANDS := pgha-agent pghactl

LINT := go tool -modfile=tools/go.mod golangci-lint
STAGE := tools/stage.sh

# The race detector costs a second compilation of every dependency, so `make test` runs it where
# goroutines meet in one process: the core, the shell around it, the API. The simulation is a stage
# of its own, and all other packages run without. For all of them: make race RACE_PKGS=./...
RACE_PKGS ?= ./internal/election ./internal/agent/... ./internal/restapi/... \
	./internal/config/... ./internal/dcs ./internal/dcs/memory/...
SIM_PKGS := ./internal/election/sim/...

# make sim SEEDS=1000 tries that many new seeds; make sim SEED=8123 replays one.
SEEDS ?= 2000
SEED ?=
# The new seeds begin at a number drawn from the commit: each commit tries others, and whoever runs the same
# commit again finds what was found. Without git, and with FIRST= (nothing), at random.
FIRST ?= $(shell h=$$(git rev-parse --short=12 HEAD 2>/dev/null) && echo $$((0x$$h >> 4)))
FUZZTIME ?= 30s
STATES ?= 1000000
BENCH_ARGS ?=
# make storm MINUTES=30 MODE=quorum SEED=7 breaks a real cluster at random for so long.
MINUTES ?= 10
MODE ?= quorum
STORM_ARGS ?=
DEMO_ARGS ?=
TEST_ARGS ?=

.PHONY: help
help: ## Show this help
	@echo 'pgha $(VERSION): targets'
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | \
		awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'
	@echo 'Variables: SEEDS=$(SEEDS) SEED= FUZZTIME=$(FUZZTIME) MINUTES=$(MINUTES) MODE=$(MODE) BENCH_ARGS= DEMO_ARGS= TEST_ARGS='

.PHONY: deps
deps: ## Install the missing system packages (Debian 12, as root)
	@tools/deps.sh

.PHONY: build
build: ## Build bin/pgha-agent and bin/pghactl
	@$(STAGE) build go build -buildvcs=$(STAMP) -ldflags '-s -w' -o bin/ $(addprefix ./cmd/,$(COMMANDS))

.PHONY: test
test: deps build tidy-check fmt-check vet lint unit race sim check-gen integration ## Everything that CI runs

.PHONY: ci
ci: test ## The same as test

.PHONY: tidy
tidy: ## Write go.mod and go.sum anew
	@go mod tidy

.PHONY: tidy-check
tidy-check: ## Fail if go.mod or go.sum is not what the imports need
	@$(STAGE) tidy-check go mod tidy -diff

.PHONY: fmt
fmt: ## Format all Go code
	@$(LINT) fmt

.PHONY: fmt-check
fmt-check: ## Fail if Go code is not formatted
	@$(STAGE) fmt-check $(LINT) fmt --diff

.PHONY: fix
fix: ## Let the linter mend what it can, and format
	@$(LINT) run --fix ./...

.PHONY: vet
vet: ## Run go vet on everything, integration tests included
	@$(STAGE) vet go vet -tags integration ./...

.PHONY: lint
lint: ## Run golangci-lint, at the version pinned in tools/go.mod
	@$(STAGE) lint $(LINT) run ./...

.PHONY: unit
unit: ## Run the unit tests of the packages that race and sim leave out
	@all=$$(go list ./...); others=$$(go list $(RACE_PKGS) $(SIM_PKGS)); \
	$(STAGE) unit go test -timeout 8m $(TEST_ARGS) $$(comm -23 <(sort <<<"$$all") <(sort <<<"$$others"))

.PHONY: race
race: ## Run the tests of the core and the shell with the race detector
	@CGO_ENABLED=1 $(STAGE) race go test -race -timeout 8m $(TEST_ARGS) $(RACE_PKGS)

.PHONY: sim
sim: ## Simulate whole clusters: the kept seeds and SEEDS new ones, or one SEED
	@PGHA_SIM_SEEDS='$(SEEDS)' PGHA_SIM_SEED='$(SEED)' PGHA_SIM_FIRST='$(FIRST)' \
		$(STAGE) sim go test -v -count=1 -timeout 24h $(TEST_ARGS) $(SIM_PKGS) | \
		grep --line-buffered -Ev '^(=== (RUN|PAUSE|CONT|NAME)| *--- PASS|    [a-z]*_test\.go:[0-9]+: seed [0-9]+: [IL][-0-9])'

.PHONY: check-model
check-model: ## Walk bounded worlds exhaustively, up to STATES states each
	@PGHA_MODEL_STATES='$(STATES)' $(STAGE) check-model go test -v -count=1 -timeout 24h $(TEST_ARGS) ./internal/election/model

# The last stage of `make test`: nothing is printed after Go's own result lines.
.PHONY: integration
integration: build ## Run the tests against real PostgreSQL, etcd and HAProxy (as root)
	@$(STAGE) --last integration go test -tags integration -count=1 -p 1 -timeout 20m $(TEST_ARGS) ./test/integration ./test/storm

.PHONY: storm
storm: deps build ## Break a real cluster at random for MINUTES, in MODE async, sync or quorum
	@$(STAGE) --last storm go run ./test/storm -minutes $(MINUTES) -mode $(MODE) $(if $(SEED),-seed $(SEED)) $(STORM_ARGS)

.PHONY: bench
bench: deps build ## Measure the outage of each kind of fault, in milliseconds
	@$(STAGE) --last bench go run ./test/bench $(BENCH_ARGS)

.PHONY: demo
demo: deps build ## Start three members, break them, and show what clients see
	@go run ./test/demo $(DEMO_ARGS)

.PHONY: gen
gen: ## Write the generated files anew (docs/rules.md and the like)
	@$(STAGE) gen go generate ./...

.PHONY: check-gen
check-gen: ## Fail if a generated file differs from what the code generates
	@$(STAGE) check-gen tools/check-gen.sh

.PHONY: fuzz
fuzz: ## Run every fuzzer for FUZZTIME
	@$(STAGE) fuzz tools/fuzz.sh $(FUZZTIME)

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin dist
