# The commands of this repository; `make help` lists them. Scripts that they share are in packaging/.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.NOTPARALLEL:
.SILENT:

CARGO := packaging/cargo.sh
BOOTSTRAP := packaging/bootstrap.sh
MEMBER := packaging/engine.sh as-member
AEGIS := $(or $(CARGO_TARGET_DIR),target)/release/aegis
PREFIX ?= /usr/local

# What `make run` runs: the test suite of the sample project. ARGS replaces all of it.
ARGS ?= --sandbox strict -w examples/sample-project -o report -- make test

# One profile for everything, so that nothing is compiled twice.
PROFILE := --release --locked --workspace

# What the tests need beside the base image, and which backends must not be missing.
TEST_IMAGES := base minimal
export AEGIS_TEST_REQUIRE ?= docker,registry,postgres,api_tester

# What of the tests of `aegis run` runs a second time through a server. Others look at the one container or gateway of an
# instance (a server keeps warm ones), at the owner's process, at secrets that a project has to be allowed, at hints that a
# server does not give, at snapshots that a run here keeps for the next one, or at published ports, which stay here anyway.
# Outputs are in tests/it/attach.rs.
THROUGH := test(/^(changes|ps|run|sc|terminal)::/) - test(/sc_05|of_a_repeated_run|nothing_is_kept/)

FUZZ_TARGETS := $(notdir $(basename $(wildcard tests/fuzz/fuzz_targets/*.rs)))
FUZZ_SECONDS ?= 300

.PHONY: help run build test test-long fuzz test-projects bench docs sbom lint lint-tools lint-fmt lint-clippy lint-deny lint-doc lint-shell check install clean

help: ## This list
	grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 12

run: ## Install what is missing, build, and run the sample project in a sandbox (ARGS="--image … -- CMD" for anything else)
	$(BOOTSTRAP) build engine image-base
	$(CARGO) build --release --locked
	packaging/image.sh $(AEGIS) base
	exec $(MEMBER) $(AEGIS) run $(ARGS)

build: ## Build target/release/aegis
	$(BOOTSTRAP) build
	$(CARGO) build --release --locked

# Everything of the lock file is fetched, other systems' parts too: a test reads it without the network.
test: ## Every test, in CI's form
	$(BOOTSTRAP) build engine $(TEST_IMAGES:%=image-%) test api_tester
	$(CARGO) fetch --locked --quiet
	$(CARGO) build --release --locked
	packaging/image.sh $(AEGIS) $(TEST_IMAGES)
	$(MEMBER) $(CARGO) nextest run $(PROFILE)

test-long: ## Every test with its full counts
	$(BOOTSTRAP) build engine $(TEST_IMAGES:%=image-%) test api_tester
	$(CARGO) fetch --locked --quiet
	$(CARGO) build --release --locked
	packaging/image.sh $(AEGIS) $(TEST_IMAGES) go node rust
	tests/images/build.sh clients
	AEGIS_TEST_FORM=long $(MEMBER) $(CARGO) nextest run $(PROFILE) --profile long
	AEGIS_TEST_THROUGH=server AEGIS_TEST_FORM=long $(MEMBER) $(CARGO) nextest run $(PROFILE) --profile long -E '$(THROUGH)'

# Without a sanitizer, so that the compiler that builds everything else does: what is looked for are panics and broken
# promises, and no code of ours but init's is unsafe.
fuzz: ## Fuzz what strangers write and Aegis reads, five minutes a target (FUZZ_SECONDS=N for others)
	$(BOOTSTRAP) build fuzz
	PATH="$$PATH:$${CARGO_HOME:-$$HOME/.cargo}/bin"
	for target in $(FUZZ_TARGETS); do
		echo "== $$target"
		$(CARGO) fuzz run --sanitizer none --fuzz-dir tests/fuzz "$$target" -- \
			-max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
	done

test-projects: ## Five real projects run their own test suites in docker run and in a sandbox
	$(BOOTSTRAP) build engine image-base image-node image-rust
	$(CARGO) build --release --locked
	packaging/image.sh $(AEGIS) base node rust
	tests/projects/compare.sh $(AEGIS)

bench: ## Measure against the engine by hand
	$(BOOTSTRAP) build engine $(TEST_IMAGES:%=image-%) test
	$(CARGO) build --release --locked
	packaging/image.sh $(AEGIS) $(TEST_IMAGES)
	$(MEMBER) $(CARGO) bench --locked --bench '*'

# The links are held by a test, so that CI holds them without the program that builds the site.
docs: ## Build the pages into one static site, target/docs
	$(BOOTSTRAP) build docs
	$(CARGO) test $(PROFILE) --test it -- --quiet book::
	PATH="$$PATH:$${CARGO_HOME:-$$HOME/.cargo}/bin" mdbook build docs --dest-dir '$(abspath $(or $(CARGO_TARGET_DIR),target))/docs'

# The tool writes beside each Cargo.toml, under this name.
sbom: ## Write the bill of materials (CycloneDX) of what is built from the lock file, target/sbom
	$(BOOTSTRAP) build sbom
	PATH="$$PATH:$${CARGO_HOME:-$$HOME/.cargo}/bin" $(CARGO) cyclonedx --quiet --format json --spec-version 1.5 --override-filename sbom.cdx
	sbom='$(or $(CARGO_TARGET_DIR),target)/sbom'
	install -d "$$sbom"
	mv sbom.cdx.json "$$sbom/aegis.cdx.json"
	mv init/sbom.cdx.json "$$sbom/aegis-init.cdx.json"

# SECURITY.md lists these scans, and a test compares the two lists.
lint: lint-fmt lint-clippy lint-deny lint-doc lint-shell ## Every scan of SECURITY.md

lint-tools:
	$(BOOTSTRAP) build lint

lint-fmt: lint-tools
	$(CARGO) fmt --all --check

# The profile of the tests, so that build scripts and macros are not compiled twice.
lint-clippy: lint-tools
	$(CARGO) clippy $(PROFILE) --all-targets -- -D warnings

lint-deny: lint-tools
	packaging/deny.sh

lint-doc: lint-tools
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc $(PROFILE) --no-deps

lint-shell:
	if ! command -v shellcheck >/dev/null; then echo 'shellcheck is not here: shell scripts are not checked' >&2; exit 0; fi
	shellcheck packaging/*.sh images/build.sh tests/images/build.sh tests/projects/compare.sh .ci/run

check: lint test ## lint and test

install: ## Install the program, completions and man pages below PREFIX (/usr/local)
	$(CARGO) build --release --locked
	install -D -m 0755 $(AEGIS) '$(DESTDIR)$(PREFIX)/bin/aegis'
	share='$(DESTDIR)$(PREFIX)/share'
	install -d "$$share/bash-completion/completions" "$$share/zsh/site-functions" "$$share/fish/vendor_completions.d" "$$share/man/man1"
	$(AEGIS) completions bash >"$$share/bash-completion/completions/aegis"
	$(AEGIS) completions zsh >"$$share/zsh/site-functions/_aegis"
	$(AEGIS) completions fish >"$$share/fish/vendor_completions.d/aegis.fish"
	$(AEGIS) man "$$share/man/man1"

clean: ## Remove what was built
	$(CARGO) clean
