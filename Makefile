# What CI runs is what a person types before a push.
.PHONY: run test test-aarch64 lint fmt simulate bench bench-agent bench-bytes bench-codec bench-query bench-engine bench-hostile bench-store bench-start bench-house bench-fleet static soak ui fuzz help

UI = aggregator/ui/web
PAGE = $(UI)/dist/page/index.html

help:           ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1	/p' Makefile

run:            ## build, start the aggregator with this host's agent joined, in ./var, and print the link to open
	@packaging/need run
	@packaging/run-local

test:           ## everything CI runs: format, lint, tidy, unit, property, simulation, fuzz corpora, page, end to end
	@packaging/need test
	$(MAKE) lint
	$(MAKE) ui
	cargo test --workspace --locked
	cd $(UI) && npm run check
	tests/page/run
	tests/docker/run
	tests/docker/socket
	tests/disk/run
	tests/remote_write/run
	tests/query/run
	tests/forward/run
	tests/delivery/run
	tests/delivery/hosts
	tests/processes/run
	tests/systemd/run
	tests/static/run

# Under qemu /proc/self is that of the emulator: what compares with it is left out.
test-aarch64:   ## unit tests of the agent and of what both programs share, for aarch64 under qemu: not in `make test`
	@packaging/need static-aarch64
	CC_aarch64_unknown_linux_musl=aarch64-linux-gnu-gcc CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld \
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER=qemu-aarch64-static \
	cargo test --locked -p agent -p common --lib --target aarch64-unknown-linux-musl -- \
	--skip agrees_with_the_procfs_crate --skip living_processes_are_read_as_the_kernel_shows_them

simulate:       ## delivery under faults: make simulate SEED=17, or SEEDS=100000
	SEED=$(SEED) SEEDS=$(SEEDS) cargo test --release --locked -p tests --test simulate -- --nocapture stored_once

lint:           ## format and lints of the Rust sources
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

fmt:            ## format all sources
	cargo fmt --all
	cd $(UI) && npm run --silent format

ui: $(PAGE)     ## build the page that the aggregator embeds, if its sources changed

$(PAGE): $(shell find $(UI) \( -name node_modules -o -name dist -o -name test \) -prune -o -type f -print)
	cd $(UI) && npm ci --no-audit --no-fund && npm run build

bench-agent:    ## what the agent costs with 500 processes in 100 cgroups, and with 5,000 in 1,000
	tests/benches/agent

bench-codec:    ## bytes a value on the wire, and what they take to encode and decode
	cargo test --release --locked -p common --test codec_size -- --nocapture --test-threads 1

static:         ## the agent as one static file, for two architectures
	packaging/static x86_64
	packaging/static aarch64

soak:           ## half an hour of containers that come and go
	tests/soak/run

bench-bytes:    ## bytes on the wire for ten minutes, beside scraping and remote write
	tests/benches/bytes

bench-query:    ## queries beside Prometheus and VictoriaMetrics: make bench-query HOURS=6 TIMES=20
	cargo build --release --locked -p aggregator
	cargo run --release --locked -p benches --bin bench-query -- $(or $(HOURS),6) $(or $(TIMES),20)

bench-engine:   ## the same questions to the engine alone, for a profiler: make bench-engine QUESTION=rate TIMES=20, or GROWTH=1000000
	cargo run --release --locked -p benches --bin bench-engine -- "$(QUESTION)" $(or $(TIMES),20) $(or $(GROWTH),0)

bench-hostile:  ## what small queries and writes wait for beside dashboards and heavy queries
	cargo build --release --locked -p aggregator
	cargo run --release --locked -p benches --bin bench-hostile -- $(or $(SECONDS),10) $(or $(CLIENTS),8)

bench-store:    ## storing beside Prometheus and VictoriaMetrics: make bench-store HOURS=24 TIMES=10 SET=FILE
	cargo build --release --locked -p aggregator
	cargo run --release --locked -p benches --bin bench-store -- $(or $(HOURS),24) $(or $(TIMES),10) $(SET)

bench-start:    ## what a start takes, and what series take in memory: make bench-start HOSTS=100 WINDOWS=360 SET=classes
	cargo run --release --locked -p benches --bin bench-start -- $(or $(HOSTS),50) $(or $(WINDOWS),300) $(or $(SET),moving)

bench-house:    ## what three hosts write to a memory card in a day: make bench-house SERIES=300 INTERVAL=10 HOURS=24
	cargo run --release --locked -p benches --bin bench-house -- $(or $(SERIES),300) $(or $(INTERVAL),10) $(or $(HOURS),24)

bench-fleet:    ## what agents cost the aggregator: make bench-fleet HOSTS=500 SERIES=2240 TIME=120
	cargo build --release --locked -p aggregator
	cargo build --release --locked -p benches --bin bench-fleet
	tests/benches/fleet/run $(or $(HOSTS),500) $(or $(SERIES),2240) $(or $(TIME),120)

bench:          ## budgets beside the neighbours that are installed
	tests/benches/run

fuzz:           ## make fuzz TARGET=frame SECONDS=60
	cd tests/fuzz && cargo +nightly fuzz run $(TARGET) -- -max_total_time=$(SECONDS)
