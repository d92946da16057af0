#!/bin/sh
# All studies of docs/studies.md, one after another. The same command goes on where it was stopped; what is through stays.
#
#    benchmarks/studies.sh OUT [REAL_MODEL [ADAPTER]]
#
# Each has at most HOURS (0.6) in one call, and ONLY="ttft joint" names some of them. A study is through when all its
# puzzles and seeds are; one that its hours ended has the table of what it did, and goes on with the next call. REAL_MODEL
# is the folder of `make real-model`, on which two more are asked; ADAPTER an adapter of it, with which it is asked
# whether fine-tuning should go on from that. Options of EXTRA go to all, such as `--n-tasks 2 --seeds 1` to try it.
# Tables and figures go to OUT/tables, with the command and the commit (NAME.txt) and the hours (NAME-progress.json).
set -eu
out=$1 real=${2:-} adapter=${3:-}
hours=${HOURS:-0.6} only=${ONLY:-}
root=$(cd "$(dirname "$0")/.." && pwd)
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
python=${PYTHON:-$python}
mkdir -p "$out/tables"

# study FOLDER NAME [OPTION ...]
study() {
    folder=$1 name=$2
    shift 2
    case " ${only:-$folder} " in *" $folder "*) ;; *) return 0 ;; esac
    grep -qs '"is_through": true' "$out/$folder/progress.json" && return 0
    # shellcheck disable=SC2086 (EXTRA holds several words)
    set -- "$name" --out "$out/$folder" --hours "$hours" "$@" ${EXTRA:-}
    echo "== $folder: arc-kaggle study $*"
    echo "arc-kaggle study $*, commit $(git -C "$root" describe --always --dirty)" >>"$out/tables/$folder.txt"
    "$python" -m arc_kaggle.cli study "$@" || echo "$0: $folder failed, and the next one begins" >&2
    for file in table.md table.csv figure.svg trainings.md curves.csv curves.svg tokens.csv tokens.svg progress.json; do
        [ ! -e "$out/$folder/$file" ] || cp "$out/$folder/$file" "$out/tables/$folder-$file"
    done
    grep -qs '"is_through": true' "$out/$folder/progress.json" || left="${left:-} $folder"
}

# Parts of the run of `predictions`, from which two more studies read their rows.
parts() {
    for part in "$out"/predictions/runs/*/seed-*/part-*; do
        [ ! -e "$part/part.json" ] || printf '%s\n' "$part"
    done
}

# Of the model in the box.
study temperature temperature --part-size 5
study steps sweep --over tune.steps=0,25,50,100 --set generate.n-views=8 --part-size 5
study ttft ttft --part-size 5
study ttft-lora ttft-lora --part-size 5
study joint joint --n-tasks 30 --seeds 1
study beam beam --part-size 5
study best-of best-of --part-size 5
study selection selection --part-size 5
study predictions predictions --part-size 5
rm -f "$out/output-size/progress.json" "$out/augmentations/progress.json" # parts may have come since
if [ -n "$(parts)" ]; then
    # shellcheck disable=SC2046 (a folder a line)
    study output-size output-size --runs $(parts)
    # shellcheck disable=SC2046
    study augmentations augmentations --runs $(parts)
fi
# Of models that they train themselves.
for name in encoders system-prompt loss dropping-pairs data-mix checkpoints; do
    study "$name" "$name" --part-size 10
done
# Of the pretrained model.
if [ -n "$real" ]; then
    study tokens tokens --models "$root/arc_kaggle/box" "$real" --longest 300
    study real-selection selection --models "$real" --set recipe=lora --longest 300 --part-size 2
    [ -z "$adapter" ] ||
        study continue-adapter continue-adapter --models "$adapter" --base "$real" --longest 300 --part-size 2
fi
[ -z "${left:-}" ] || { echo "$0: not through, and the same command goes on:$left" >&2; exit 1; }
