#!/usr/bin/env bash
# The main job on this machine, from nothing: set-up, then generate → train on two ranks → roll out → report.
# Started again it goes on where it was; what is finished is not done twice.
#
#   bash jobs/quickstart.sh my.yaml         another run file
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash jobs/setup.sh
source jobs/common.sh

RUN=${1:-jobs/configs/quickstart.yaml}
# Two ranks, whatever the machine has: its cores are shared between them.
cores=$(nproc)
mlmd_threads "$((cores > 2 ? cores / 2 : 1))"

mlmd generate "$RUN"
$(mlmd_mpirun 2) mlmd train "$RUN"
mlmd rollout "$RUN"
mlmd report "$RUN"
mlmd status "$RUN"
