#!/usr/bin/env bash
# Takes ONNX Runtime for GPUs to a machine that reaches no package index, in parts that are small
# enough to be carried.
set -euo pipefail

wheels= # a folder of our own, while it is needed
trap '[ -z "$wheels" ] || rm -rf "$wheels"' EXIT

usage() {
  cat <<'EOF'
usage: gpu/stage.sh cut [--version V] [--python X.Y] [--part-mib N] FOLDER
       gpu/stage.sh install FOLDER [PYTHON]

cut      where an index is within reach: downloads onnxruntime-gpu (default: 1.31.1) and what it
         needs for a Python (default: 3.12) on x86-64 Linux, and puts it into FOLDER in parts of at
         most N MiB (default: 48), with this script. pip's own variables are honoured.
install  where none is, from the carried FOLDER: checks and joins the parts, and installs them for
         PYTHON (default: python3). Run FOLDER/stage.sh itself: it came along.

CUDA's and cuDNN's libraries are not among them: a PyTorch for the same CUDA brings those.
EOF
}

fail() {
  echo "stage.sh: $*" >&2
  exit 1
}

cut_wheels() {
  local version=1.31.1 python=3.12 part_mib=48 folder=
  while [ $# -gt 0 ]; do
    case $1 in
      --version) version=${2:?} && shift 2 ;;
      --python) python=${2:?} && shift 2 ;;
      --part-mib) part_mib=${2:?} && shift 2 ;;
      -*) fail "unknown option $1; see stage.sh --help" ;;
      *) folder=$1 && shift ;;
    esac
  done
  [ -n "$folder" ] || fail "a folder was expected: stage.sh cut FOLDER"
  [ ! -e "$folder" ] || fail "$folder is there already; name a folder that is not"
  mkdir -p "$folder"
  wheels=$(mktemp -d)
  local platforms=()
  for tag in 2_28 2_27 2_17; do platforms+=(--platform "manylinux_${tag}_x86_64"); done
  "${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --only-binary=:all: \
    --python-version "$python" --implementation cp "${platforms[@]}" \
    --platform manylinux2014_x86_64 --dest "$wheels" "onnxruntime-gpu==$version"
  (cd "$wheels" && sha256sum -- *.whl) >"$folder/WHEELS"
  local wheel
  for wheel in "$wheels"/*.whl; do
    split --bytes="${part_mib}M" --numeric-suffixes --suffix-length=3 \
      "$wheel" "$folder/$(basename "$wheel").part-"
  done
  (cd "$folder" && sha256sum -- *.part-*) >"$folder/PARTS"
  cp "$0" "$folder/stage.sh"
  chmod +x "$folder/stage.sh"
  echo "carry these files, together or one by one, into one folder:"
  (cd "$folder" && du -b -- * | awk '{printf "  %12d bytes  %s\n", $1, $2}')
  echo "and run there: FOLDER/stage.sh install FOLDER PYTHON"
}

install_wheels() {
  local folder=${1:-} python=${2:-python3}
  [ -d "$folder" ] || fail "a folder with the parts was expected: stage.sh install FOLDER [PYTHON]"
  [ -f "$folder/PARTS" ] && [ -f "$folder/WHEELS" ] || fail "$folder lacks PARTS or WHEELS: carry them too"
  if "$python" -m pip show --quiet onnxruntime >/dev/null 2>&1; then
    fail "$python has onnxruntime, whose files are the same: uninstall it first"
  fi
  (cd "$folder" && sha256sum --check --quiet PARTS) || fail "a part is missing or was changed on its way"
  local wheel
  wheels=$(mktemp -d)
  while read -r _ wheel; do
    cat "$folder/$wheel".part-* >"$wheels/$wheel"
  done <"$folder/WHEELS"
  cp "$folder/WHEELS" "$wheels/"
  (cd "$wheels" && sha256sum --check --quiet WHEELS) || fail "the parts don't fit together"
  "$python" -m pip install --quiet --disable-pip-version-check --no-index --find-links "$wheels" \
    onnxruntime-gpu
  "$python" -c 'import onnxruntime as o; print("onnxruntime", o.__version__, o.get_available_providers())'
}

case ${1:-} in
  cut) shift && cut_wheels "$@" ;;
  install) shift && install_wheels "$@" ;;
  -h | --help) usage ;;
  *) usage >&2 && exit 2 ;;
esac
