#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# tools/hakmem-reclaim.bt, with the program trace as the one that loses slots: what it loses, and
# why, is known.  settings puts bpftrace into this machine where the host has it.
set -u
# shellcheck source=tests/vm/tap
. ./tap

# sum PATTERN: of the numbers in lines "@map[...]: number" that match
sum()
{
	awk -v p="$1" '$0 ~ p { t += $NF } END { print t + 0 }' out.bt
}

echo "TAP version 13"
command -v bpftrace >/dev/null || {
	echo "1..0 # SKIP bpftrace is not installed on the host"
	exit 4
}
echo "1..5"

bpftrace ./hakmem-reclaim.bt -c "$PWD/trace" >out.bt 2>&1
result "the script runs as long as its command" out.bt
[ "$(sum '^@slots.*, trace, trim]')" = 2 ] && [ "$(sum '^@slots.*, trace, from_idle]')" = 2 ]
result "slots that the owner gave are told from" out.bt
[ "$(sum '^@slots.*, trace, trigger]')" = 1 ] && [ "$(sum '^@slots.*, trace, offline]')" = 1 ] &&
	[ "$(sum '^@slots.*, trace, decay]')" = 1 ]
result "slots that were taken, by why" out.bt
[ "$(sum '^@slots')" = 7 ] && [ "$(sum '^@bytes.*, trace]')" = $((7 * 2097152)) ]
result "nothing is counted twice, and bytes are" out.bt
# Of the two that were trimmed one was marked idle 20 epochs before.
grep -qE '^@idle_ms\[[0-9]+, trace\]:' out.bt && grep -qE '^\[[12]K, [24]K\) +1 ' out.bt
result "how long they had been idle" out.bt
exit $bad
