#!/usr/bin/env bash
# Everything that needs an NVIDIA GPU, in one command, from binaries that benches/gpu/build.sh made:
# the test suites, the seed workload on the harness, other libraries on the same card and vectors,
# ids against f64, the gates. The card's settings are read, never changed.
#
#   run.sh [--dry-run] [--steps LIST] [--out FOLDER] [--bin FOLDER] [--append]
#
#   --steps   of kernels,suite,sweep,filters,knobs,peers,agree,flat,scale (default: all, in this order; filters is
#             the sweep and flat again with each filter of the scan list by list; knobs the sweep with other
#             values of what else can be tuned, one by one; scale is
#             10 M x 128 with 4096 and 16384 lists, flat 1 M x 768, both beside the peers)
#   --out     results (default: $GPU_RESULTS, else ./gpu-results)
#   --bin     binaries (default: the folder bin beside this script's)
#   --append  keep the records in the results' folder, so that steps can be run in several calls
#
# Variables: PYTHON (python3), GPU_STEP_S (longest time of one command, 300), GPU_TEST_THREADS (1),
# GPU_BACKENDS ("cuda cuda-raw"), GPU_PEERS (names of peers.py --only), GPU_SWEEP_ARGS and GPU_PEER_ARGS
# (options added at the end), GPU_SIZES (full, or tiny to try everything on a small machine), GPU_ANYWHERE
# (yes: do not look for CUDA), GPU_PEER_DEVICE (cuda). Wheels in the folder wheels beside bin are unpacked for this run.
#
# Exit code: 0 all ran and every gate is met; 1 a step failed; 2 nothing was run (no GPU, no NVRTC, no
# binaries); 3 a gate is missed or was not measured.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=$here/../bin
out=${GPU_RESULTS:-./gpu-results}
steps=kernels,suite,sweep,filters,knobs,peers,agree,flat,scale
dry=
append=
python=${PYTHON:-python3}
step_s=${GPU_STEP_S:-300}
read -ra backends <<< "${GPU_BACKENDS:-cuda cuda-raw}"
read -ra sweep_args <<< "${GPU_SWEEP_ARGS:-}"
read -ra peer_args <<< "${GPU_PEER_ARGS:-}"
peer_args=(--device "${GPU_PEER_DEVICE:-cuda}" "${peer_args[@]}")
# Rows, lists, probes of the three workloads: nb train_n nlist nprobe nq.. of the seed's; nb train_n piece
# and (nlist nprobe) of the large one; nb d of the flat one.
case ${GPU_SIZES:-full} in
    full)
        seed_nb=262144 seed_d=128 seed_train=20480 seed_nlist=512 seed_nprobe=32 seed_k=20 deep_k=1000
        seed_nq=1,8,32,128,512,2048,19600 seed_pool=19600
        large_nb=10000000 large_train=500000 large_piece=1000000 large_nq=1,32,512,10000 large_pool=10000
        large_lists=("4096 32" "16384 64")
        flat_nb=1000000 flat_d=768 flat_piece=250000 flat_nq=1,32,1000
        ;;
    tiny)
        seed_nb=3000 seed_d=16 seed_train=1000 seed_nlist=16 seed_nprobe=4 seed_k=5 deep_k=300
        seed_nq=1,32 seed_pool=64
        large_nb=5000 large_train=2000 large_piece=1500 large_nq=1,32 large_pool=64
        large_lists=("16 4" "40 6")
        flat_nb=2000 flat_d=24 flat_piece=700 flat_nq=1,20
        ;;
    *) stop "GPU_SIZES is full or tiny" ;;
esac
[ -z "${GPU_PEERS:-}" ] || peer_args=(--only "$GPU_PEERS" "${peer_args[@]}")

stop() {
    echo "run.sh: $*" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
        --dry-run) dry=yes; shift; continue ;;
        --append) append=yes; shift; continue ;;
        --steps | --out | --bin) [ $# -ge 2 ] || stop "$1 needs a value" ;;
        --help | -h) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
        *) stop "unknown option $1 (see --help)" ;;
    esac
    case $1 in
        --steps) steps=$2 ;;
        --out) out=$2 ;;
        --bin) bin=$2 ;;
    esac
    shift 2
done
IFS=, read -ra wanted <<< "$steps"
for step in "${wanted[@]}"; do
    case $step in
        kernels | suite | sweep | filters | knobs | peers | agree | flat | scale) ;;
        *) stop "no step '$step'; there are kernels, suite, sweep, filters, knobs, peers, agree, flat, scale" ;;
    esac
done

has() {
    [[ ,$steps, == *,$1,* ]]
}

# What is there, before anything runs.
if [ -z "$dry" ]; then
    command -v "$python" > /dev/null || stop "no $python"
    [ -x "$bin/sweep" ] || stop "no $bin/sweep: build it with benches/gpu/build.sh, or name its folder with --bin"
    if has suite; then [ -x "$bin/cuda" ] || stop "no $bin/cuda (the suite)"; fi
    scratch=$(mktemp -d) || stop "no temporary folder"
    trap 'rm -rf "$scratch"' EXIT
    if [ -z "${GPU_ANYWHERE:-}" ]; then
        exports=$("$python" "$here/cuda_env.py" "$scratch/cuda") || stop 'nothing was run (see the line above)'
        eval "$exports"
    fi
    mkdir -p "$out" || stop "cannot write to $out"
    out=$(cd "$out" && pwd)
    bin=$(cd "$bin" && pwd)
else
    scratch=SCRATCH
fi
results=$out/results.jsonl
log=$out/log.txt
data=$scratch/data
failed=0

# One JSON line of words NAME VALUE NAME VALUE ..
note() {
    [ -z "$dry" ] || return 0
    "$python" -c 'import json, sys; w = sys.argv[1:]; print(json.dumps(dict(zip(w[::2], w[1::2]))))' "$@" >> "$results"
}

# step NAME COMMAND..: runs it with a time limit, its output shown and kept, its end noted.
step() {
    local name=$1 from=$SECONDS code
    shift
    if [ -n "$dry" ]; then
        printf '%s:' "$name"
        printf ' %q' timeout -k 10 "$step_s" "$@"
        printf '\n'
        return 0
    fi
    printf '\n=== %s\n' "$name" | tee -a "$log"
    timeout -k 10 "$step_s" "$@" 2>&1 | tee -a "$log" > "$scratch/last"
    code=${PIPESTATUS[0]}
    grep -E '^test result|FAILED|panicked|error' "$scratch/last" | head -n 20
    tail -n 12 "$scratch/last"
    local said
    said=$(grep -E '^test result' "$scratch/last" | tail -n 1)
    note kind step name "$name" exit "$code" seconds $((SECONDS - from)) said "$said"
    if [ "$code" != 0 ]; then
        failed=1
        [ "$code" != 124 ] || echo "$name: stopped after $step_s s"
    fi
    return "$code"
}

card() {
    local fields=name,driver_version,memory.total,memory.used,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem
    fields+=,power.draw,power.limit,temperature.gpu,persistence_mode
    if [ -n "$dry" ]; then
        echo "card: nvidia-smi --query-gpu=$fields --format=csv,noheader"
    elif command -v nvidia-smi > /dev/null; then
        note kind clocks when "$1" fields "$fields" values "$(nvidia-smi --query-gpu=$fields --format=csv,noheader 2>&1 | head -n 8)"
    else
        note kind clocks when "$1" values 'no nvidia-smi here'
    fi
}

environment() {
    local built=unknown
    [ ! -f "$here/../build-info.json" ] || built=$(tr -d '\n' < "$here/../build-info.json")
    note kind environment nvrtc "${GPU_NVRTC:-none}" driver_cuda "${GPU_DRIVER_CUDA:-none}" built "$built" kernel "$(uname -sr)" \
        cores "$(nproc)" python "$("$python" --version 2>&1)" \
        torch "$("$python" -c 'import torch; print(torch.__version__, torch.cuda.get_device_name())' 2>&1 | tail -n 1)"
}

# Peers that travelled along: pure-Python wheels, and trees that pack_peers.py packed.
wheels() {
    local tree found=
    for tree in "$here"/../wheels/peer-*.tar.xz; do
        [ -f "$tree" ] || continue
        found=yes
        step "peer ${tree##*/}" bash -c 'mkdir -p "$2" && tar -C "$2" -xf "$1"' unpack "$tree" "$scratch/site"
    done
    if compgen -G "$here/../wheels/*.whl" > /dev/null; then
        found=yes
        step wheels "$python" -m pip install -q --no-index --no-deps --no-compile --target "$scratch/site" "$here"/../wheels/*.whl
    fi
    [ -n "$found" ] || return 0
    export PYTHONPATH=$scratch/site${PYTHONPATH:+:$PYTHONPATH}
}

summary() {
    [ -n "$dry" ] || "$python" "$here/report.py" "$out"
}

# The functions below are called by the name of their step.
# shellcheck disable=SC2329
kernels() {
    local binary found=
    for binary in "$bin"/kernels-*; do
        [ -x "$binary" ] || continue
        found=yes
        step "kernels: ${binary##*/}" "$binary" --test-threads "${GPU_TEST_THREADS:-1}"
    done
    [ -n "$found" ] || echo "kernels: skipped, no binaries $bin/kernels-*"
}

# shellcheck disable=SC2329
suite() {
    step suite env BURN_IVF_REQUIRE_GPU=1 "$bin/cuda" --test-threads "${GPU_TEST_THREADS:-1}"
}

# The default of `sweep run` is the seed workload; it is written out here so that it stays what it is.
# shellcheck disable=SC2329
sweep() {
    local backend input
    for input in device host; do
        for backend in "${backends[@]}"; do
            step "sweep: $backend, queries on the $input" "$bin/sweep" run --backend "$backend" --input "$input" --explain \
                --data normal --seed 1234 --nb $seed_nb --d $seed_d --metric l2 --train-n $seed_train \
                --nlist $seed_nlist --nprobe $seed_nprobe --k $seed_k --nq $seed_nq --gt-nq "$((seed_pool < 1000 ? seed_pool : 1000))" \
                --warmup 3 --repeat 9 --cell-s 20 --out "$results" "${sweep_args[@]}"
        done
    done
    # More results than a queue in shared memory keeps.
    step "sweep: $backend, k $deep_k" "$bin/sweep" run --backend "$backend" --input device --explain \
        --data normal --seed 1234 --nb $seed_nb --d $seed_d --metric l2 --train-n $seed_train \
        --nlist $seed_nlist --nprobe $seed_nprobe --k $deep_k --nq $seed_nq --gt-nq 32 \
        --warmup 3 --repeat 9 --cell-s 20 --out "$results" "${sweep_args[@]}"
}

# The same on the device, and flat, where bounds keep rows from being compared: 1 in f32, 2 by tensor cores.
# shellcheck disable=SC2329
filters() {
    local backend=${backends[-1]} filter
    for filter in 1 2; do
        step "filters: $backend, scan_filter $filter" env BURN_IVF_SCAN_FILTER=$filter "$bin/sweep" run --backend "$backend" \
            --input device --explain --data normal --seed 1234 --nb $seed_nb --d $seed_d --metric l2 --train-n $seed_train \
            --nlist $seed_nlist --nprobe $seed_nprobe --k $seed_k --nq $seed_nq --gt-nq "$((seed_pool < 1000 ? seed_pool : 1000))" \
            --warmup 3 --repeat 9 --cell-s 20 --out "$results" "${sweep_args[@]}"
        step "filters: $backend, scan_filter $filter, flat" env BURN_IVF_SCAN_FILTER=$filter "$bin/sweep" flat --backend "$backend" \
            --input device --data normal --seed 1234 --nb $flat_nb --d $flat_d --piece $flat_piece --nq $flat_nq --k 10,100 \
            --warmup 3 --repeat 9 --cell-s 20 --out "$results"
    done
}

# What else can be tuned (docs/config.md), below and above what is built in; where scans begin to read list by list.
# shellcheck disable=SC2329
knobs() {
    local backend=${backends[-1]} knob words
    for knob in scan_tile_queries=16 scan_tile_queries=64 scan_queue_pairs=64 scan_queue_pairs=256 scan_units=64 scan_units=256 \
        scan_rows_per_cube=128 scan_rows_per_cube=512 scan_cubes_per_processor=2 scan_cubes_per_processor=8 \
        'list_major_from_avg_group=0 list_major_from_bytes=0' list_major_from_avg_group=1000000 \
        'scan_filter=1 scan_tile_queries=64' 'scan_filter=2 scan_tile_queries=16' 'scan_filter=2 scan_tile_queries=64'; do
        read -ra words <<< "$(sed -E 's/([a-z_]+)=/BURN_IVF_\U\1=/g' <<< "$knob")"
        step "knobs: $backend, $knob" env "${words[@]}" "$bin/sweep" run --backend "$backend" \
            --input device --data normal --seed 1234 --nb $seed_nb --d $seed_d --metric l2 --train-n $seed_train \
            --nlist $seed_nlist --nprobe $seed_nprobe --k $seed_k --nq $seed_nq --gt-nq 32 \
            --warmup 3 --repeat 9 --cell-s 5 --out "$results" "${sweep_args[@]}"
    done
}

# shellcheck disable=SC2329
vectors() {
    [ -f "$data/queries.npy" ] || step 'vectors of the seed workload' "$bin/sweep" data --data normal --seed 1234 \
        --nb $seed_nb --d $seed_d --nq $seed_pool --out "$data"
}

# shellcheck disable=SC2329
peers() {
    vectors && step peers "$python" "$here/peers.py" --dir "$data" --out "$results" \
        --nq $seed_nq --nprobe $seed_nprobe --k $seed_k --nlist $seed_nlist --train-n $seed_train "${peer_args[@]}"
}

# shellcheck disable=SC2329
agree() {
    local backend
    vectors || return 1
    for backend in "${backends[@]}"; do
        step "agree: $backend" "$python" "$here/agree.py" --dir "$data" --sweep "$bin/sweep" --backend "$backend" \
            --device "${GPU_PEER_DEVICE:-cuda}" --nlist $seed_nlist --nprobe $seed_nprobe --k $seed_k --train-n $seed_train \
            --out "$results"
    done
}

# Exhaustive search, then the peers that have it on the same vectors.
# shellcheck disable=SC2329
flat() {
    local backend=${backends[-1]} folder=$scratch/flat
    step "flat: $backend, $flat_nb x $flat_d" "$bin/sweep" flat --backend "$backend" --input device --data normal --seed 1234 \
        --nb $flat_nb --d $flat_d --piece $flat_piece --nq $flat_nq --k 10,100 --warmup 3 --repeat 9 --cell-s 20 --out "$results"
    step 'vectors of the flat workload' "$bin/sweep" data --data normal --seed 1234 --nb $flat_nb --d $flat_d \
        --piece $flat_piece --nq 1000 --out "$folder" || return 1
    step 'flat: peers' "$python" "$here/peers.py" --dir "$folder" --out "$results" --only torch-matmul-topk,flashlib-flat,faiss-gpu-flat,cuvs-flat \
        --nq $flat_nq --k 10 "${peer_args[@]}"
    rm -rf "$folder"
}

# 10 million vectors, drawn and added piece by piece.
# shellcheck disable=SC2329
scale() {
    local backend=${backends[-1]} folder=$scratch/large pair nlist nprobe
    for pair in "${large_lists[@]}"; do
        read -r nlist nprobe <<< "$pair"
        step "scale: $backend, $large_nb x $seed_d, $nlist lists" "$bin/sweep" run --backend "$backend" --input device --explain \
            --data normal --seed 1234 --nb $large_nb --d $seed_d --piece $large_piece --metric l2 --train-n $large_train \
            --nlist "$nlist" --nprobe "$nprobe" --k 10 --nq $large_nq --gt-nq 50 --warmup 3 --repeat 9 --cell-s 20 --out "$results"
    done
    step 'vectors of the large workload' "$bin/sweep" data --data normal --seed 1234 --nb $large_nb --d $seed_d \
        --piece $large_piece --nq $large_pool --out "$folder" || return 1
    for pair in "${large_lists[@]}"; do
        read -r nlist nprobe <<< "$pair"
        step "scale: peers, $nlist lists" "$python" "$here/peers.py" --dir "$folder" --out "$results" \
            --only torch-ivf,flashlib,faiss-gpu,cuvs --nq $large_nq --nprobe "$nprobe" --k 10 --nlist "$nlist" \
            --train-n $large_train --gt-nq 50 "${peer_args[@]}"
    done
    rm -rf "$folder"
}

if [ -z "$dry" ]; then
    [ -n "$append" ] || rm -f "$results" "$log" "$out/report.md" "$out/gates.jsonl" "$out"/results.env-*.json
    environment
fi
card before
wheels
for step in "${wanted[@]}"; do
    "$step"
    card "after $step"
    summary > /dev/null # so that a run that is cut short leaves one too
done

[ -z "$dry" ] || exit 0
printf '\n=== gates (all of it: %s)\n' "$out/report.md"
summary
gates=$?
[ "$failed" = 0 ] || { echo 'a step failed: see above'; exit 1; }
exit "$gates"
