# weave: `make help` lists the targets.
SHELL := bash
GO ?= go
TAGS := remote
BIN := bin/weave
GOFUMPT := mvdan.cc/gofumpt@v0.12.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS := -s -w $(if $(VERSION),-X weave/internal/api.Version=$(VERSION))

.PHONY: all build demo test test-vm lint bench sim soak fuzz clean help

all: build

build: ## the static binary bin/weave
	CGO_ENABLED=0 $(GO) build -tags $(TAGS) -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/weave

demo: build ## three hosts and six containers on this machine, under a minute
	@WEAVE_BIN=$(BIN) $(GO) run ./netns-tests/demo

test: ## everything, with the race detector; ends with "N passed, N failed, N skipped"
	@GO=$(GO) scripts/test.sh

test-vm: build ## tests of encrypted fastdp, in guests with kernels that have IPsec and WireGuard (VM="-v -run Rekey")
	@scripts/tools.sh nft ip linux.uml modprobe qemu-system-x86_64
	WEAVE_BIN=$(CURDIR)/$(BIN) $(GO) run ./netns-tests/vm -kernel uml,debian $(VM)

lint: ## gofumpt, go vet with and without the tag, staticcheck
	@GO=$(GO) GOFUMPT=$(GOFUMPT) STATICCHECK=$(STATICCHECK) scripts/lint.sh

bench: build ## weave beside other tunnels; writes docs/performance.md, or takes BENCH="flags"
	@scripts/tools.sh nft iperf3
	-@scripts/tools.sh tincd fastd
	CGO_ENABLED=0 $(GO) build -o bin/bench/wireguard-go ./bench/wireguard
	CGO_ENABLED=0 $(GO) build -o bin/bench/relay ./bench/relay
	-CGO_ENABLED=0 $(GO) build -C bench/nebula -o $(CURDIR)/bin/bench/ github.com/slackhq/nebula/cmd/nebula github.com/slackhq/nebula/cmd/nebula-cert
	WEAVE_BIN=$(BIN) $(GO) run ./bench $(or $(BENCH),-write docs/performance.md)

sim: ## 10 to 1,000 simulated peers, some ten minutes; writes docs/simulation.md (SIM="-peers 3000": more than an hour)
	$(GO) run ./internal/sim/report -write docs/simulation.md $(SIM)

soak: build ## ten minutes of trouble for six hosts (SOAK="-for 1h -hosts 8")
	@scripts/tools.sh nft ip
	WEAVE_BIN=$(BIN) $(GO) run ./netns-tests/soak $(SOAK)

fuzz: ## each fuzz target for FUZZTIME (10s)
	@GO=$(GO) scripts/fuzz.sh $(or $(FUZZTIME),10s)

clean: ## what make made
	rm -rf bin

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
