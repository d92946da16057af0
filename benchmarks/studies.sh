#!/bin/sh
# All studies of docs/studies.md, one after another. The same command goes on where it was stopped; what is through stays.
#
#    benchmarks/studies.sh OUT [REAL_MODEL [ADAPTER]]
#
# Each has at most HOURS (0.6), and ONLY="ttft joint" names some of them. REAL_MODEL is the folder of `make real-model`, on
# which two more are asked; ADAPTER an adapter of it, with which it is asked whether fine-tuning should go on from that.
# Options of EXTRA go to all, such as `--n-tasks 2 --seeds 1` to try it. Tables and figures go to OUT/tables.
set -eu
out=$1 real=${2:-} adapter=${3:-}
hours=${HOURS:-0.6} only=${ONLY:-}
mkdir -p "$out/tables"

# study FOLDER NAME [OPTION ...]
study() {
    folder=$1 name=$2
    shift 2
    case " ${only:-$folder} " in *" $folder "*) ;; *) return 0 ;; esac
    [ ! -e "$out/$folder/through" ] || return 0
    echo "== $folder: arc-kaggle study $name $* --hours $hours"
    # shellcheck disable=SC2086 (EXTRA holds several words)
    if "${PYTHON:-python}" -m arc_kaggle.cli study "$name" --out "$out/$folder" --hours "$hours" "$@" ${EXTRA:-}; then
        [ ! -e "$out/$folder/table.md" ] || touch "$out/$folder/through"
    fi
    if [ ! -e "$out/$folder/through" ]; then
        echo "$0: $folder ended without a table, and the next one begins" >&2
        failed="${failed:-} $folder"
    fi
    for file in table.md table.csv figure.svg trainings.md curves.csv curves.svg tokens.csv tokens.svg; do
        [ ! -e "$out/$folder/$file" ] || cp "$out/$folder/$file" "$out/tables/$folder-$file"
    done
}

# Of the model in the box.
study temperature temperature
study steps sweep --over tune.steps=0,25,50,100 --set generate.n-views=8
study ttft ttft
study ttft-lora ttft-lora
study joint joint
study beam beam
study best-of best-of
study selection selection
study predictions predictions
study output-size output-size
study augmentations augmentations
# Of models that they train themselves.
for name in encoders system-prompt loss dropping-pairs data-mix checkpoints; do
    study "$name" "$name"
done
# Of the pretrained model.
if [ -n "$real" ]; then
    study tokens tokens --models arc_kaggle/box "$real" --longest 300
    study real-selection selection --models "$real" --set recipe=lora --longest 300
fi
[ -z "$adapter" ] || study continue-adapter continue-adapter --models "$adapter" --base "$real" --longest 300
[ -z "${failed:-}" ] || { echo "$0: not through:$failed" >&2; exit 1; }
