# Thin over cargo. `make` alone lists the targets.

ARGS ?=
# The running kernel's series: 6.18 of 6.18.44.
SERIES := $(shell uname -r | cut -d. -f1,2)

.DEFAULT_GOAL := help
.PHONY: help run test check bench generate clean

help: ## lists the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: ## the main job: makes every trial of the catalogue (ARGS: selectors and options)
	cargo run --release --quiet -- run $(ARGS)

test: ## every test, with and without laboratories (ARGS: as for cargo test)
	cargo test --workspace $(ARGS)

check: ## whatever needs no privileges: format, lints, documents, the language
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings
	cargo clippy --no-default-features --lib -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps
	cargo test --lib --test language --test house
	cargo run --quiet -- check scenarios fixtures/trap.toml fixtures/adversary.toml

bench: ## the kernel's floor, airtight's trials and a whole run, side by side
	cargo bench --bench floor

# By way of a second file: a failed build must not leave an empty one behind.
generate: ## writes what is generated and committed: schema, reference, this kernel's table
	cargo run --release --quiet -- schema > scenarios/schema.json.new
	cargo run --release --quiet -- schema --reference > scenarios/REFERENCE.md.new
	cargo run --release --quiet -- schema --result > reports/schema.json.new
	cargo run --release --quiet -- table > reports/table.md.new
	cargo run --release --quiet -- table programs > reports/programs.md.new
	cargo run --release --quiet -- table guards > reports/guards.md.new
	mv scenarios/schema.json.new scenarios/schema.json
	mv scenarios/REFERENCE.md.new scenarios/REFERENCE.md
	mv reports/schema.json.new reports/schema.json
	mv reports/table.md.new reports/linux-$(SERIES).md
	mv reports/programs.md.new reports/programs-linux-$(SERIES).md
	mv reports/guards.md.new reports/guards-linux-$(SERIES).md

clean: ## removes what was built and what runs have left in reports/runs
	cargo clean
	rm -rf reports/runs
