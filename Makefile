# Millrace. `make run` and `make test` need nothing but Go, and npm's registry for the embedded ClickHouse.

MODULES := schemas processor ingest query loadtest deploy/standalone
PACKAGES := $(addsuffix /...,$(addprefix ./,$(MODULES)))
VERSION ?= $(shell git describe --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -X main.version=$(VERSION)
FUZZTIME ?= 20000x
BIN := $(CURDIR)/bin

# Tools, by version; each is built once into bin/.
GOLANGCI_LINT := $(BIN)/golangci-lint
STATICCHECK := $(BIN)/staticcheck
BUF := $(BIN)/buf
PROTOC_GEN_GO := $(BIN)/protoc-gen-go

.PHONY: help build run test lint fuzz bench loadtest demo image generate clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

build: ## Build bin/millrace
	@mkdir -p $(BIN)
	go build -ldflags '$(LDFLAGS)' -o $(BIN)/millrace ./deploy/standalone/cmd/millrace

run: build ## Serve everything on 127.0.0.1:8080, with the recorded history
	MILLRACE_DEMO=$${MILLRACE_DEMO-on} $(BIN)/millrace standalone

test: ## Run all tests; real Kafka joins where Maven Central is reached
	./deploy/test/run

lint: $(GOLANGCI_LINT) $(STATICCHECK) $(BUF) ## Vet, staticcheck, golangci-lint, buf lint
	go vet $(PACKAGES)
	$(STATICCHECK) $(PACKAGES)
	$(GOLANGCI_LINT) run $(PACKAGES)
	cd schemas && $(BUF) lint && $(BUF) breaking --against '../.git#subdir=schemas'

fuzz: ## Fuzz every parser of outside bytes with FUZZTIME inputs each (20000x; 20s is a time)
	./deploy/test/fuzz $(FUZZTIME)

bench: ## Run the benchmarks
	go test -run '^$$' -bench . -benchmem $(PACKAGES)

loadtest: build ## Build bin/loadtest, the load harness, and what it starts
	go build -ldflags '$(LDFLAGS)' -o $(BIN)/loadtest ./loadtest/cmd/loadtest
	go build -o $(BIN)/bareappend ./deploy/standalone/cmd/bareappend
	go build -o $(BIN)/engines ./deploy/standalone/engines/enginetest/run

demo: build ## Run real pgbench on a scratch PostgreSQL and upload it to the running Millrace
	./deploy/demo/run

image: ## Build the container image millrace:local, for docker compose and Kubernetes
	./deploy/compose/image

generate: $(BUF) $(PROTOC_GEN_GO) ## Generate the events' Go code and the documentation made from code
	cd schemas && PATH=$(BIN):$$PATH $(BUF) generate
	go run ./deploy/standalone/cmd/millrace config settings >docs/configuration.md

clean: ## Remove what was built; data/ stays
	rm -rf $(BIN)

$(GOLANGCI_LINT):
	GOBIN=$(BIN) GOWORK=off go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

$(STATICCHECK):
	GOBIN=$(BIN) GOWORK=off go install honnef.co/go/tools/cmd/staticcheck@v0.7.0

$(BUF):
	GOBIN=$(BIN) GOWORK=off go install github.com/bufbuild/buf/cmd/buf@v1.68.0

$(PROTOC_GEN_GO):
	GOBIN=$(BIN) GOWORK=off go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
