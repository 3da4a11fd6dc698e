#!/bin/sh
# A scenario against the reference servers, in turns, three rounds.  compare.sh [scenario [option]...]
[ $# -gt 0 ] || set -- fanout
exec "${TIDEGATE_LOADTEST:-$(dirname "$0")/../target/release/tidegate-loadtest}" compare --peers floor,floor-tick,axum "$@"
