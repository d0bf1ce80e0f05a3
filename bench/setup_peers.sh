#!/bin/sh
# Makes a virtual environment with the runtimes that bench/compare.py measures against, at the releases pinned here.
#
#     bench/setup_peers.sh DIR [--torch]
#
# onnxruntime and openvino read .onnx files; onnxruntime's quantizer needs onnx. ncnn reads what pnnx makes of them, which compare.py runs by itself; pnnx is
# installed without the packages that only its Python export needs. litert reads .tflite files that lie beside the models.
# torch (with --torch only) reads .pt2 files that `bench/nets.py --export` writes beside the models.
# PYTHON names the interpreter to use, PIP_ARGS what else to tell pip.
set -eu

ONNXRUNTIME=1.32.0
OPENVINO=2026.4.1
LITERT=2.3.0
NCNN=1.0.20261020
PNNX=20261020
TORCH=2.13.0
TORCH_INDEX=https://download.pytorch.org/whl/cpu

usage="usage: bench/setup_peers.sh DIR [--torch]"
dir=${1:?$usage}
case $dir in -*) echo "$usage" >&2; exit 2 ;; esac
shift
torch=no
for option in "$@"; do
    case $option in
    --torch) torch=yes ;;
    *) echo "setup_peers.sh: unknown option $option; $usage" >&2; exit 2 ;;
    esac
done

"${PYTHON:-python3}" -m venv "$dir"
pip() { "$dir/bin/python" -m pip --disable-pip-version-check "$@"; }

failed=
# One by one: a runtime without a wheel for this machine does not keep the others away.
add() {
    name=$1
    shift
    # shellcheck disable=SC2086
    if pip install --quiet ${PIP_ARGS:-} "$@"; then
        echo "installed $*"
    else
        echo "setup_peers.sh: $name cannot be installed here" >&2
        failed="$failed $name"
    fi
}
add onnxruntime "onnxruntime==$ONNXRUNTIME" onnx
add openvino "openvino==$OPENVINO"
add litert "ai-edge-litert==$LITERT"
add ncnn "ncnn==$NCNN"
add pnnx --no-deps "pnnx==$PNNX"
if [ $torch = yes ]; then
    add torch "torch==$TORCH" --extra-index-url "$TORCH_INDEX"
fi

check() {
    if ! "$dir/bin/python" -c "$2" 2>/dev/null; then
        case " $failed " in *" $1 "*) ;; *) echo "setup_peers.sh: $1 is installed but cannot be used" >&2; failed="$failed $1" ;; esac
    fi
}
check onnxruntime "import onnxruntime"
check openvino "import openvino; assert 'CPU' in openvino.Core().available_devices"
check litert "from ai_edge_litert.interpreter import Interpreter"
check ncnn "import ncnn; ncnn.Net()"
check pnnx "import importlib.util, os; s = importlib.util.find_spec('pnnx'); assert os.access(os.path.join(list(s.submodule_search_locations)[0], 'pnnx'), os.X_OK)"
if [ $torch = yes ]; then
    check torch "import torch; torch.ones(1)"
fi

if [ -n "$failed" ]; then
    echo "setup_peers.sh: without$failed; compare.py says so for every net" >&2
    exit 1
fi
