#!/bin/bash
# Does training work on this machine's GPU? At most eight minutes; needs no network, and builds nothing.
#
#   tools/gpu_check.sh           on a machine with a CUDA GPU; ucseg must be installed for $PYTHON (python)
#   tools/gpu_check.sh --cpu     the same in small without a GPU: whether this script works
#
# Prints seconds a step, the share of time that the GPU waits, peak memory, and losses beside those of the CPU.
# Writes gpu_check.json into the folder in which it is called. The exit code is 1 where something is wrong.
set -euo pipefail
exec timeout --signal=INT --kill-after=30 480 "${PYTHON:-python}" "$(dirname "$0")/gpu_check.py" "$@"
