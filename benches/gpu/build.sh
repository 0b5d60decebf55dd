#!/usr/bin/env bash
# Builds what benches/gpu/run.sh runs, on a machine that needs no GPU, and packs it into one archive:
#
#   build.sh [OUT.tar.xz] [--peers]     default: target/gpu/burn-ivf-gpu.tar.xz
#
# There: tar xf burn-ivf-gpu.tar.xz && burn-ivf-gpu/gpu/run.sh
#
# --peers adds the pure-Python wheels of torch-ivf and FlashLib (pip downloads them). Variables:
# CUDARC_CUDA_VERSION (12080: the oldest CUDA whose driver functions are asked for; a newer driver does),
# PYTHON_VERSION (3.12, of the machine with the GPU), CARGO_TARGET_DIR.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
export CUDARC_CUDA_VERSION=${CUDARC_CUDA_VERSION:-12080}
target=${CARGO_TARGET_DIR:-$root/target}
archive=$target/gpu/burn-ivf-gpu.tar.xz
peers=
for word in "$@"; do
    case $word in
        --peers) peers=yes ;;
        -*) echo "build.sh: unknown option $word" >&2; exit 2 ;;
        *) archive=$word ;;
    esac
done
mkdir -p "$(dirname "$archive")"
archive=$(cd "$(dirname "$archive")" && pwd)/$(basename "$archive")
cd "$root"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pack=$work/burn-ivf-gpu
mkdir -p "$pack/bin" "$pack/gpu"

# Lines "NAME EXECUTABLE" of what cargo built, out of its JSON messages.
executables() {
    python3 -c '
import json, sys
for line in sys.stdin:
    if not line.startswith("{"):
        continue
    message = json.loads(line)
    if message.get("reason") == "compiler-artifact" and message.get("executable"):
        print(message["target"]["name"], message["executable"])'
}

build() {
    echo "cargo $*" >&2
    cargo "$@" --message-format=json-render-diagnostics | executables
}

# put NAME EXECUTABLE: stripped, into the pack.
put() {
    strip -o "$pack/bin/$1" "$2" 2> /dev/null || cp "$2" "$pack/bin/$1"
    chmod 755 "$pack/bin/$1"
}

built=$work/built
build test --release --no-run --features cuda --test cuda > "$built"
build bench --no-run --bench sweep --features cuda >> "$built"
while read -r name path; do put "$name" "$path"; done < "$built"
for name in cuda sweep; do
    [ -x "$pack/bin/$name" ] || { echo "build.sh: cargo named no executable '$name'" >&2; exit 1; }
done

# Of the kernels' tests those for CUDA, if there are any: a binary without tests is left out, and so
# are the tests of the CPU kernels.
build test --release --no-run -p burn-ivf-kernels --features cuda --tests > "$built"
while read -r name path; do
    count=$("$path" --list 2> /dev/null | grep -c ': test$' || true)
    case $name in
        differential | burn_ivf_kernels | burn-ivf-kernels) echo "kernels: $name left out (CPU only)" ;;
        *) if [ "$count" -gt 0 ]; then put "kernels-$name" "$path"; else echo "kernels: $name left out (no tests under cuda)"; fi ;;
    esac
done < "$built"

cp "$here"/*.sh "$here"/*.py "$pack/gpu/"
if [ -n "$peers" ]; then
    # The others are too large for this archive; pack_peers.py makes one of each.
    python3 "$here/pack_peers.py" "$pack/wheels" --only torch-ivf,flashlib --python "${PYTHON_VERSION:-3.12}"
fi

locked() {
    grep -A1 "^name = \"$1\"\$" Cargo.lock | sed -n 's/^version = "\(.*\)"$/\1/p' | head -n 1
}
dirty=$(git status --porcelain --untracked-files=no 2> /dev/null || true)
cat > "$pack/build-info.json" << INFO
{"git": "$(git rev-parse --short=12 HEAD 2> /dev/null || echo unknown)",
 "git_dirty": "${dirty:+yes}", "rustc": "$(rustc --version)",
 "burn_ivf": "$(locked burn-ivf)", "burn": "$(locked burn)",
 "cubecl": "$(locked cubecl)", "cudarc": "$(locked cudarc)",
 "cudarc_cuda_version": "$CUDARC_CUDA_VERSION", "date": "$(date -u +%Y-%m-%dT%H:%M:%SZ)"}
INFO

tar -C "$work" -c burn-ivf-gpu | xz -T0 -6 > "$archive"
bytes=$(stat -c %s "$archive")
ls -la "$pack/bin"
echo "$archive: $((bytes / 1048576)).$((bytes % 1048576 * 10 / 1048576)) MiB"
[ "$bytes" -lt $((64 * 1048576)) ] || echo 'build.sh: note: larger than 64 MiB' >&2
