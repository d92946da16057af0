#!/bin/sh
# Trains edition 3 of the model in the box, or goes on with its training where it was stopped or killed.
#
#    benchmarks/edition3.sh OUT REARC [OPTION ...]
#
# OUT is the folder of the model and its checkpoints, REARC the file of re-arc pairs (rearc.jsonl.xz); further options go
# to `arc-kaggle train` behind the recipe's own, whose place they take, such as `--max-minutes 60` to end in an hour.
# START is a model folder to go on from in place of random weights, whose optimizer begins anew: with other data (--seed)
# and what is left of --steps, --first-max-tokens, --growing-fraction and --decay-fraction. PYTHON names the interpreter
# of the environment. Two processes (PROCESSES) of one thread each, at idle priority
# (PRIORITY); their threads do not spin beside other work. All of them are in the process group of this script: started by
# setsid, it is stopped by `kill -9 -- -PID`, paused by -STOP, gone on by -CONT.
set -eu
out=$1 rearc=$2
shift 2
model="--architecture grid --hidden-size 192 --n-layers 6"
[ -z "${START:-}" ] || { model=""; set -- --start "$START" "$@"; }
processes=${PROCESSES:-2} priority=${PRIORITY-chrt --idle 0}
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE HF_HUB_OFFLINE=1
export WORLD_SIZE="$processes" MASTER_ADDR=127.0.0.1 MASTER_PORT="${MASTER_PORT:-29517}"

train() {
    rank=$1
    shift
    RANK=$rank LOCAL_RANK=$rank $priority "${PYTHON:-python}" -m arc_kaggle.cli train --out "$out" \
        --data arc1:training=1 arc2:training=1.5 "$rearc=3" synth:0.8=4.5 --drop-leaks \
        $model --precision fp32 \
        --steps 25000 --tokens-per-batch 8192 --tokens-per-pass 4096 --bucket 32 \
        --max-tokens 2048 --first-max-tokens 320 --growing-fraction 0.6 --remake-share 0.15 \
        --optim.matrices muon --optim.learning-rate 3e-3 --optim.schedule linear --optim.warmup-fraction 0.01 \
        --decay-fraction 0.3 --ema 0.999 --validation-puzzles 32 --save-every 200 --keep-checkpoints 3 "$@"
}

# A session of its own is a scheduling group of its own on Linux, and idle priority yields only within a group.
[ -z "$priority" ] || [ ! -w /proc/self/autogroup ] || echo 19 > /proc/self/autogroup

rank=$((processes - 1))
while [ "$rank" -gt 0 ]; do
    train "$rank" "$@" &
    rank=$((rank - 1))
done
train 0 "$@"
wait
