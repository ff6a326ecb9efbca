# What people do with the code. CI runs `make test`.

# Which benchmarks: Peers compares with nginx and the distribution registry, process by process.
# Pages asks for every page over 100,000 repositories. Hot compares a node's copies of a bucket's
# content with a directory, and its way to the bucket with minio-go's.
BENCH ?= Peers
BENCHTIME ?= 1x
# How long each fuzz target gets.
FUZZTIME ?= 30s

# Where the tests' tools are, once `make test` has run.
export PATH := $(CURDIR)/.tools/bin:$(PATH)

.PHONY: build test lint fuzz bench release changelog

# What the binary says of itself: the tag, if there is one, and how far behind it is; VERSION says another.
# Outside a repository nothing. A `make release` goes by its own rules.
described = $(or $(VERSION),$(shell git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null))
commit = $(shell git rev-parse --verify --quiet HEAD 2>/dev/null)
date = $(shell TZ=UTC git show --no-patch --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd HEAD 2>/dev/null)
changed = $(if $(shell git status --porcelain 2>/dev/null),true)

build:
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.release=$(described) -X main.commit=$(commit) -X main.date=$(date) \
		-X main.changed=$(changed)" -o roadstead ./cmd/roadstead

# Installs what the tests need, then runs every check there is.
test:
	@bash .ci/check

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet ./...
	staticcheck ./...

# Go fuzzes one target of one package at a time.
fuzz:
	@set -e; for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "== $$package $$target"; \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

bench:
	go test -run '^$$' -bench '^Benchmark$(BENCH)' -benchtime $(BENCHTIME) -timeout 60m ./cmd/roadstead

# Makes dist/ of a commit that has a tag: see the head of deploy/release.sh.
release:
	@bash deploy/release.sh

# A draft of what has changed since the release before.
changelog:
	@bash deploy/release.sh changelog
