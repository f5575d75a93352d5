#!/usr/bin/env bash
# Cargo's RUSTC_WRAPPER for the fuzz targets: has the compiler count what runs (SanitizerCoverage) in Keyward and in the
# targets. Nothing else is instrumented, so that what is built of the dependencies can be shared with the tests.
arguments=("$@")
previous=
for argument in "$@"; do
    if [[ $previous == --crate-name && ($argument == keyward || $argument == keyward_fuzz) ]]; then
        arguments+=(
            -Cpasses=sancov-module
            -Cllvm-args=-sanitizer-coverage-level=4
            -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
            -Cllvm-args=-sanitizer-coverage-pc-table
            -Cllvm-args=-sanitizer-coverage-trace-compares
        )
    fi
    previous=$argument
done
exec "${arguments[@]}"
