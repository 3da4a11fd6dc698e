#!/bin/sh
# An hour, or so many seconds, of everything: does memory stay, is every event right?  soak.sh [seconds [option]...]
seconds="${1:-3600}"; [ $# -eq 0 ] || shift
exec "${TIDEGATE_LOADTEST:-$(dirname "$0")/../target/release/tidegate-loadtest}" soak --seconds "$seconds" "$@"
