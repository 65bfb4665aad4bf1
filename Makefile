# What CI runs is what a person types before a push.
.PHONY: run test lint fmt bench ui
test: lint      ## everything CI runs
	cargo test --workspace --locked
lint:
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
fmt:
	cargo fmt --all
