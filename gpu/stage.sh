#!/usr/bin/env bash
# Takes ONNX Runtime for GPUs to a machine that reaches no package index, in parts that are small
# enough to be carried.
set -euo pipefail
unset CDPATH # with which cd prints where it goes

scratch=() # folders of our own, while they are needed
trap '[ ${#scratch[@]} -eq 0 ] || rm -rf -- "${scratch[@]}"' EXIT

usage() {
  cat <<'USAGE'
usage: gpu/stage.sh cut [--version V] [--python X.Y] [--part-mib N] FOLDER
       gpu/stage.sh install FOLDER [PYTHON]

cut      where an index is within reach: downloads onnxruntime-gpu (default: 1.31.1) and what it
         needs for a Python (default: 3.12) on x86-64 Linux, and puts it into FOLDER, which must not
         be there yet, in parts of at most N MiB (default: 48), with this script. The pip that
         downloads is that of python3, or of $PYTHON; its own variables are honoured.
install  where none is, from the carried FOLDER: checks and joins the parts, and installs them for
         PYTHON (default: python3). Run FOLDER/stage.sh itself: it came along. What PYTHON has
         already of what ONNX Runtime needs stays as it is. It may be run again.

CUDA's and cuDNN's libraries are not among them: a PyTorch for the same CUDA brings those.
Both need bash, GNU coreutils and pip.
USAGE
}

fail() {
  echo "stage.sh: $*" >&2
  exit 1
}

# usage: need TOOL...
need() {
  local tool
  for tool; do
    command -v "$tool" >/dev/null || fail "$tool is not on this machine; it comes with GNU coreutils"
  done
}

# usage: scratch_folder [PARENT]; its path is in $made, and it goes when we do.
scratch_folder() {
  local parent=${1:-${TMPDIR:-/tmp}}
  made=$(mktemp -d -- "$parent/.stage-XXXXXX") || fail "no folder can be made in $parent"
  scratch+=("$made")
}

# usage: version_of PYTHON; prints X.Y, of a Python that has pip.
version_of() {
  local found
  found=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || found=
  [[ $found =~ ^3\.[0-9]+$ ]] || fail "$1 is no Python 3 that can be run here"
  "$1" -m pip --version >/dev/null 2>&1 || fail "$1 has no pip: $1 -m ensurepip may bring it"
  echo "$found"
}

# usage: check_digests FOLDER LIST WHAT; each file that LIST names must be there, as it was.
check_digests() {
  local wrong
  wrong=$(cd -- "$1" && LC_ALL=C sha256sum --check --quiet --strict -- "$2" 2>&1) ||
    fail "$3"$'\n'"$wrong"
}

cut_wheels() {
  local version=1.31.1 python=3.12 part_mib=48 folder=
  while [ $# -gt 0 ]; do
    case $1 in
      --version | --python | --part-mib) [ $# -gt 1 ] || fail "$1 needs a value; see stage.sh --help" ;;
    esac
    case $1 in
      --version) version=$2 && shift 2 ;;
      --python) python=$2 && shift 2 ;;
      --part-mib) part_mib=$2 && shift 2 ;;
      -h | --help) usage && exit ;;
      -*) fail "unknown option $1; see stage.sh --help" ;;
      *)
        [ -z "$folder" ] || fail "one folder was expected, not $folder and $1"
        folder=$1 && shift
        ;;
    esac
  done
  [ -n "$folder" ] || fail "a folder was expected: stage.sh cut FOLDER"
  [[ $python =~ ^3\.[0-9]+$ ]] || fail "--python: a version such as 3.12 was expected, not $python"
  [[ $part_mib =~ ^[1-9][0-9]*$ ]] || fail "--part-mib: a whole number above 0 was expected, not $part_mib"
  [ ! -e "$folder" ] || fail "$folder is there already; name a folder that is not"
  need sha256sum split
  version_of "${PYTHON:-python3}" >/dev/null

  # Made beside its place and moved there when it is whole: what fails leaves nothing behind.
  local parent made wheels parts wheel platforms=() tag
  parent=$(dirname -- "$folder")
  mkdir -p -- "$parent" || fail "$parent can't be made"
  scratch_folder "$parent" && parts=$made
  scratch_folder && wheels=$made
  for tag in 2_28 2_27 2_17; do platforms+=(--platform "manylinux_${tag}_x86_64"); done
  "${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --only-binary=:all: \
    --python-version "$python" --implementation cp "${platforms[@]}" \
    --platform manylinux2014_x86_64 --dest "$wheels" "onnxruntime-gpu==$version" ||
    fail "onnxruntime-gpu $version for Python $python could not be downloaded; pip says why above"
  echo "$python" >"$parts/PYTHON"
  (cd -- "$wheels" && sha256sum -- *.whl) >"$parts/WHEELS"
  for wheel in "$wheels"/*.whl; do
    split --bytes="${part_mib}M" --numeric-suffixes --suffix-length=3 \
      -- "$wheel" "$parts/$(basename -- "$wheel").part-"
  done
  cp -- "${BASH_SOURCE[0]}" "$parts/stage.sh"
  chmod 755 -- "$parts" "$parts/stage.sh"
  (cd -- "$parts" && sha256sum -- PYTHON WHEELS *.part-*) >"$parts/.PARTS"
  mv -- "$parts/.PARTS" "$parts/PARTS"
  mv --no-target-directory -- "$parts" "$folder"
  echo "carry these files, together or one by one, into one folder:"
  (cd -- "$folder" && du -b -- * | awk '{printf "  %12d bytes  %s\n", $1, $2}')
  echo "and run there: FOLDER/stage.sh install FOLDER PYTHON"
}

install_wheels() {
  case ${1:-} in -h | --help) usage && exit ;; -*) fail "unknown option $1; see stage.sh --help" ;; esac
  [ $# -le 2 ] || fail "a folder and a Python were expected, and no more: ${*:3}"
  local folder=${1:-} python=${2:-python3} name
  [ -d "$folder" ] || fail "a folder with the parts was expected: stage.sh install FOLDER [PYTHON]"
  for name in PARTS WHEELS PYTHON; do
    [ -f "$folder/$name" ] || fail "$folder lacks $name: carry it too"
  done
  need sha256sum
  check_digests "$folder" PARTS "a part is missing or was changed on its way; carry it again:"

  local has wanted
  has=$(version_of "$python")
  wanted=$(cat -- "$folder/PYTHON")
  [ "$has" = "$wanted" ] ||
    fail "$python is Python $has, and the parts are for $wanted: name another, or cut with --python $has"
  if "$python" -m pip show --quiet onnxruntime >/dev/null 2>&1; then
    fail "$python has onnxruntime, whose files are the same: uninstall it first"
  fi

  local made wheels wheel version=
  scratch_folder && wheels=$made
  while read -r _ wheel; do
    case $wheel in onnxruntime_gpu-*) version=${wheel#*-} && version=${version%%-*} ;; esac
    while read -r _ name; do
      # Only what PARTS names: there may be copies of a part beside it.
      case $name in "$wheel".part-*) cat -- "$folder/$name" ;; esac
    done <"$folder/PARTS" >"$wheels/$wheel"
  done <"$folder/WHEELS"
  [ -n "$version" ] || fail "$folder has no onnxruntime-gpu among its parts"
  cp -- "$folder/WHEELS" "$wheels/"
  check_digests "$wheels" WHEELS "the parts don't fit together:"
  "$python" -m pip install --quiet --disable-pip-version-check --no-index --find-links "$wheels" \
    "onnxruntime-gpu==$version" || fail "$python could not install it; pip says why above"
  "$python" -c 'import onnxruntime as o; print("onnxruntime", o.__version__, o.get_available_providers())' ||
    fail "it is installed, but $python can't import it"
}

case ${1:-} in
  cut) shift && cut_wheels "$@" ;;
  install) shift && install_wheels "$@" ;;
  -h | --help) usage ;;
  "") usage >&2 && exit 2 ;;
  *) fail "cut or install was expected, not $1; see stage.sh --help" ;;
esac
